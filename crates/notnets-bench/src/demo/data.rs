//! The shop's data, computed from ids.
//!
//! Nothing is stored: the services answer from these functions, and the customer (the load
//! generator, in another process) computes with the same functions what each reply must be.
//! A reply that is lost, doubled, cut or meant for somebody else therefore shows.

use std::fmt::Write as _;

use bytes::Bytes;
use notnets::SharedBytes;
use once_cell::race::OnceBox;

use super::proto::*;

/// The size of a product's picture.
pub const PICTURE_BYTES: usize = 200 * 1024;
/// The size of one quarter of the catalogue.
pub const TABLE_BYTES: usize = 1024 * 1024;
/// The catalogue is exported in this many parts.
pub const QUARTERS: u32 = 4;

/// As many different pictures as there are; the products share them.
const PICTURES: usize = 8;

/// A number that looks random and depends on both `id` and `salt` (splitmix64).
pub fn mix(id: u64, salt: u64) -> u64 {
    let mut z = id.wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `length` bytes of words that depend on `seed`.
pub fn text(seed: u64, length: usize) -> String {
    const WORDS: [&str; 16] = [
        "oak", "linen", "brass", "light", "folding", "small", "sturdy", "garden", "kitchen", "blue", "woven",
        "round", "winter", "quiet", "old", "copper",
    ];
    let mut text = String::with_capacity(length + 8);
    let mut state = seed;
    while text.len() < length {
        // One number gives sixteen words.
        state = mix(state, 1);
        for nth in 0..16 {
            text.push_str(WORDS[(state >> (4 * nth)) as usize & 15]);
            text.push(' ');
            if text.len() >= length {
                break;
            }
        }
    }
    text.truncate(length);
    text
}

/// The whole page of a product.
pub fn page(product_id: u64, customer_id: u64) -> ProductPage {
    ProductPage {
        product: Some(product(product_id)),
        quote: Some(quote(product_id, customer_id)),
        stock: Some(stock(product_id)),
        reviews: Some(reviews(product_id)),
    }
}

/// Returns a product's description.
pub fn product(product_id: u64) -> Product {
    Product {
        product_id,
        name: text(mix(product_id, 10), 20),
        description: text(mix(product_id, 11), 280),
        tags: (12..15).map(|salt| text(mix(product_id, salt), 8)).collect(),
        weight_grams: (mix(product_id, 15) % 20_000) as u32,
    }
}

/// Returns a product's price for this customer.
pub fn quote(product_id: u64, customer_id: u64) -> Quote {
    let discount_percent = (mix(customer_id, 20) % 30) as u32;
    let cents = list_price(product_id) * u64::from(100 - discount_percent) / 100;
    Quote { product_id, customer_id, cents, discount_percent, currency: "EUR".into() }
}

/// Returns a product's price before any discount.
fn list_price(product_id: u64) -> u64 {
    199 + mix(product_id, 21) % 50_000
}

/// The `number`th change of a product's price.
pub fn price_update(product_id: u64, number: u32) -> PriceUpdate {
    let seed = mix(product_id, 1000 + u64::from(number));
    PriceUpdate { product_id, number, cents: 199 + seed % 50_000, reason: text(seed, 60) }
}

/// Returns the shop's answer to an offer: it meets the customer halfway.
pub fn counter_offer(offer: &Offer) -> CounterOffer {
    let list = list_price(offer.product_id);
    CounterOffer {
        product_id: offer.product_id,
        turn: offer.turn,
        cents: list.midpoint(offer.cents),
        remark: text(mix(offer.product_id, offer.cents), 40),
    }
}

/// Where a product lies.
pub fn stock(product_id: u64) -> Stock {
    let shelf = |salt| Shelf {
        warehouse: text(mix(product_id, salt), 12),
        units: (mix(product_id, salt + 10) % 500) as u32,
    };
    Stock { product_id, shelves: (30..34).map(shelf).collect() }
}

/// Returns the parcels that an order will leave in.
pub fn reservation(order_id: u64, product_ids: &[u64]) -> Reservation {
    let parcel = |product_id: &u64| format!("{order_id:016x}-{:08x}", mix(*product_id, 40) as u32);
    Reservation { order_id, parcels: product_ids.iter().map(parcel).collect() }
}

/// Returns the reviews of a product.
pub fn reviews(product_id: u64) -> ReviewList {
    let review = |salt| {
        let seed = mix(product_id, salt);
        Review { author: text(seed, 14), stars: (1 + seed % 5) as u32, text: text(seed, 120) }
    };
    ReviewList { product_id, reviews: (50..53).map(review).collect() }
}

/// Returns the price of a customer's basket.
pub fn total(order: &Order) -> u64 {
    let cost = |line: &CartLine| quote(line.product_id, order.customer_id).cents * u64::from(line.units);
    order.lines.iter().map(cost).sum()
}

/// Returns the fraud check of a payment of this much by the customer.
pub fn verdict(customer_id: u64, cents: u64, trace: &str) -> Verdict {
    let seed = mix(customer_id, cents);
    Verdict { customer_id, score: (seed % 1000) as u32, reason: text(seed, 50), trace: trace.to_owned() }
}

/// Returns the number under which a payment is booked.
pub fn payment_reference(order_id: u64, cents: u64) -> String {
    format!("PAY-{:016x}", mix(order_id, cents))
}

/// Returns the confirmation of an order that was sent under `trace`.
pub fn receipt(order: &Order, trace: &str) -> Receipt {
    let cents = total(order);
    let product_ids: Vec<u64> = order.lines.iter().map(|line| line.product_id).collect();
    Receipt {
        order_id: order.order_id,
        cents,
        reservation: Some(reservation(order.order_id, &product_ids)),
        payment: Some(Payment {
            order_id: order.order_id,
            reference: payment_reference(order.order_id, cents),
            verdict: Some(verdict(order.customer_id, cents, trace)),
        }),
    }
}

/// Adds a line to what a cart amounts to.
pub fn add_to_cart(cart: &mut CartSummary, line: &CartLine) {
    cart.cart_id = line.cart_id;
    cart.lines += 1;
    cart.units += u64::from(line.units);
    let note = line.note.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    cart.fingerprint = mix(cart.fingerprint ^ line.product_id, note);
}

/// The pixels of a product's picture, in memory that is shared with those who are sent it.
pub fn picture(product_id: u64) -> Bytes {
    static PIXELS: [OnceBox<Bytes>; PICTURES] = [const { OnceBox::new() }; PICTURES];
    let which = (product_id % PICTURES as u64) as usize;
    let pixels = PIXELS[which].get_or_init(|| {
        let words = (0..PICTURE_BYTES as u64 / 8).map(|nth| mix(nth, 60 + which as u64));
        share(words.flat_map(u64::to_le_bytes).collect()).into()
    });
    pixels.clone()
}

/// One quarter of the catalogue, a line for each product, in memory that is shared with those who are sent
/// it.
pub fn table(quarter: u32) -> Bytes {
    static TABLES: [OnceBox<Bytes>; QUARTERS as usize] = [const { OnceBox::new() }; QUARTERS as usize];
    let which = quarter % QUARTERS;
    let table = TABLES[which as usize].get_or_init(|| {
        let mut table = String::with_capacity(TABLE_BYTES + 64);
        for product_id in (u64::from(which)..).step_by(QUARTERS as usize) {
            if table.len() >= TABLE_BYTES {
                break;
            }
            let name = text(mix(product_id, 10), 20);
            writeln!(table, "{product_id},{name},{}", list_price(product_id)).expect("a String takes it all");
        }
        table.truncate(TABLE_BYTES);
        share(table.into_bytes()).into()
    });
    table.clone()
}

/// Where there is no memory to be shared, they are sent as all else is.
fn share(bytes: Vec<u8>) -> Bytes {
    SharedBytes::copy_from(&bytes).map_or_else(|_| bytes.into(), Bytes::from)
}

/// Computes the large replies ahead, so that no call waits for them.
pub fn prepare() {
    for product_id in 0..PICTURES as u64 {
        picture(product_id);
    }
    for quarter in 0..QUARTERS {
        table(quarter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_have_the_sizes_of_real_traffic() {
        use prost::Message;
        let page = page(7, 8).encoded_len();
        assert!((512..2048).contains(&page), "{page} bytes");
        assert!(price_update(7, 3).encoded_len() < 1024);
        assert_eq!(picture(7).len(), PICTURE_BYTES);
        assert_eq!(table(3).len(), TABLE_BYTES);
    }

    #[test]
    fn neighbours_differ() {
        assert_ne!(page(7, 8), page(7, 9), "another customer has another price");
        assert_ne!(page(7, 8), page(8, 8));
        assert_ne!(picture(0), picture(1));
        assert_ne!(table(0), table(1));
        assert_ne!(price_update(7, 0).cents, price_update(7, 1).cents);
    }

    #[test]
    fn a_cart_notices_swapped_and_doubled_lines() {
        let line = |product_id| CartLine { cart_id: 1, product_id, units: 1, note: text(product_id, 10) };
        let fill = |ids: &[u64]| {
            let mut cart = CartSummary::default();
            ids.iter().for_each(|id| add_to_cart(&mut cart, &line(*id)));
            cart
        };
        assert_ne!(fill(&[1, 2]), fill(&[2, 1]));
        assert_ne!(fill(&[1, 2]), fill(&[1, 1, 2]));
        assert_eq!(fill(&[1, 2]), fill(&[1, 2]));
    }
}
