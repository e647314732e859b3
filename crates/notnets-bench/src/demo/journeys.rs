//! The customers' journeys through the shop, and the replies that they must get.

use std::fmt;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Status};

use super::checks::Checks;
use super::data::{self, QUARTERS, mix, text};
use super::proto::storefront_client::StorefrontClient;
use super::proto::*;
use super::services::TRACE;
use super::transport::Channel;

/// The customer's way into the shop.
pub type Shop<C> = StorefrontClient<C>;

/// One thing that a customer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Journey {
    /// Looks at a product's page.
    Browse,
    /// Buys a basket.
    Checkout,
    /// Loads a picture.
    Picture,
    /// Loads a quarter of the catalogue.
    Export,
    /// Watches a price change.
    Watch,
    /// Puts lines into a cart.
    Cart,
    /// Haggles over a price.
    Haggle,
    /// Does any of these, as often as customers do.
    Mix,
}

/// How often a price changes while it is watched.
const UPDATES: u32 = 32;
/// How many lines go into a cart.
const LINES: u64 = 32;
/// How many offers a customer makes.
const TURNS: u32 = 16;
/// Every call must have ended by then. Nothing here takes a hundredth of it, but on an emulated machine.
const DEADLINE: Duration = Duration::from_secs(60);

impl Journey {
    /// The name as it stands in arguments and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Browse => "browse",
            Self::Checkout => "checkout",
            Self::Picture => "picture",
            Self::Export => "export",
            Self::Watch => "watch",
            Self::Cart => "cart",
            Self::Haggle => "haggle",
            Self::Mix => "mix",
        }
    }

    /// A description for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Browse => "product page: fan-out to 4 services, 1.3 KiB",
            Self::Checkout => "order: a chain of 4 calls through 5 processes, under 1 KiB",
            Self::Picture => "picture: 200 KiB through 2 services",
            Self::Export => "catalogue: 1 MiB through 2 services",
            Self::Watch => "price watch: server streaming, 32 messages",
            Self::Cart => "cart: client streaming, 32 messages",
            Self::Haggle => "haggling: bidirectional streaming, 16 turns",
            Self::Mix => {
                "all of these: 60 % browse, 14 % checkout, 8 % cart, 6 % watch, 6 % haggle, 5 % picture, 1 % export"
            }
        }
    }

    /// Goes through the journey that `seed` stands for, checks what came back, and returns
    /// the time until the last reply was there. `None`: the call failed (which is counted).
    pub async fn walk<C: Channel>(
        self,
        shop: &mut Shop<C>,
        seed: u64,
        checks: &mut Checks,
    ) -> Option<Duration> {
        let journey = self.pick(seed);
        let walked = match journey {
            Self::Browse => browse(shop, seed, checks).await,
            Self::Checkout => checkout(shop, seed, checks).await,
            Self::Picture => picture(shop, seed, checks).await,
            Self::Export => export(shop, seed, checks).await,
            Self::Watch => watch(shop, seed, checks).await,
            Self::Cart => fill_cart(shop, seed, checks).await,
            Self::Haggle => haggle(shop, seed, checks).await,
            Self::Mix => unreachable!("pick() never returns it"),
        };
        walked.inspect_err(|status| checks.failed(journey.as_str(), status)).ok()
    }

    fn pick(self, seed: u64) -> Self {
        if self != Self::Mix {
            return self;
        }
        match mix(seed, 1) % 100 {
            0..60 => Self::Browse,
            60..74 => Self::Checkout,
            74..82 => Self::Cart,
            82..88 => Self::Watch,
            88..94 => Self::Haggle,
            94..99 => Self::Picture,
            _ => Self::Export,
        }
    }
}

impl fmt::Display for Journey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

async fn browse<C: Channel>(shop: &mut Shop<C>, seed: u64, checks: &mut Checks) -> Result<Duration, Status> {
    let product_id = mix(seed, 2);
    let customer_id = mix(seed, 3);
    let start = Instant::now();
    let page = shop.browse(request(seed, BrowseRequest { product_id, customer_id })).await?.into_inner();
    let took = start.elapsed();
    checks.expect(&page, &data::page(product_id, customer_id));
    Ok(took)
}

async fn checkout<C: Channel>(
    shop: &mut Shop<C>,
    seed: u64,
    checks: &mut Checks,
) -> Result<Duration, Status> {
    let order_id = mix(seed, 4);
    let line = |nth| cart_line(order_id, seed, nth);
    let order = Order {
        order_id,
        customer_id: mix(seed, 3),
        lines: (0..3).map(line).collect(),
        address: text(seed, 80),
    };
    let wanted = data::receipt(&order, &trace(seed));
    let start = Instant::now();
    let receipt = shop.checkout(request(seed, order)).await?.into_inner();
    let took = start.elapsed();
    checks.expect(&receipt, &wanted);
    Ok(took)
}

async fn picture<C: Channel>(shop: &mut Shop<C>, seed: u64, checks: &mut Checks) -> Result<Duration, Status> {
    let product_id = mix(seed, 2);
    let start = Instant::now();
    let reply = shop.picture(request(seed, PictureRequest { product_id })).await?.into_inner();
    let took = start.elapsed();
    checks.expect(&(reply.product_id, reply.media_type.as_str()), &(product_id, "image/x-rgb"));
    checks.expect_bytes(&reply.pixels, &data::picture(product_id));
    Ok(took)
}

async fn export<C: Channel>(shop: &mut Shop<C>, seed: u64, checks: &mut Checks) -> Result<Duration, Status> {
    let quarter = (mix(seed, 2) % u64::from(QUARTERS)) as u32;
    let start = Instant::now();
    let reply = shop.export(request(seed, ExportRequest { quarter })).await?.into_inner();
    let took = start.elapsed();
    checks.expect(&reply.quarter, &quarter);
    checks.expect_bytes(&reply.table, &data::table(quarter));
    Ok(took)
}

async fn watch<C: Channel>(shop: &mut Shop<C>, seed: u64, checks: &mut Checks) -> Result<Duration, Status> {
    let product_id = mix(seed, 2);
    let start = Instant::now();
    let ask = WatchRequest { product_id, updates: UPDATES };
    let mut updates = shop.watch_price(request(seed, ask)).await?.into_inner();
    let mut seen = Vec::with_capacity(UPDATES as usize);
    while let Some(update) = updates.message().await? {
        seen.push(update);
    }
    let took = start.elapsed();
    let wanted: Vec<_> = (0..UPDATES).map(|number| data::price_update(product_id, number)).collect();
    checks.expect_all(&seen, &wanted);
    Ok(took)
}

async fn fill_cart<C: Channel>(
    shop: &mut Shop<C>,
    seed: u64,
    checks: &mut Checks,
) -> Result<Duration, Status> {
    let cart_id = mix(seed, 5);
    let lines: Vec<_> = (0..LINES).map(|nth| cart_line(cart_id, seed, nth)).collect();
    let mut wanted = CartSummary::default();
    lines.iter().for_each(|line| data::add_to_cart(&mut wanted, line));
    let start = Instant::now();
    let cart = shop.fill_cart(request(seed, tokio_stream::iter(lines))).await?.into_inner();
    let took = start.elapsed();
    checks.expect(&cart, &wanted);
    Ok(took)
}

async fn haggle<C: Channel>(shop: &mut Shop<C>, seed: u64, checks: &mut Checks) -> Result<Duration, Status> {
    let product_id = mix(seed, 2);
    let (say, said) = mpsc::unbounded_channel();
    let start = Instant::now();
    let mut answers = shop.haggle(request(seed, UnboundedReceiverStream::new(said))).await?.into_inner();
    let mut offer = Offer { product_id, turn: 0, cents: 100 };
    let mut heard = Vec::with_capacity(TURNS as usize);
    for turn in 0..TURNS {
        offer.turn = turn;
        // A shop that hangs up has dropped the other end; its answer shows why.
        let _ = say.send(offer);
        let Some(answer) = answers.message().await? else { break };
        offer.cents = offer.cents.midpoint(answer.cents);
        heard.push(answer);
    }
    drop(say);
    let rest = answers.message().await?;
    let took = start.elapsed();

    let mut offer = Offer { product_id, turn: 0, cents: 100 };
    let mut wanted = Vec::with_capacity(TURNS as usize);
    for turn in 0..TURNS {
        offer.turn = turn;
        let answer = data::counter_offer(&offer);
        offer.cents = offer.cents.midpoint(answer.cents);
        wanted.push(answer);
    }
    heard.extend(rest);
    checks.expect_all(&heard, &wanted);
    Ok(took)
}

fn cart_line(cart_id: u64, seed: u64, nth: u64) -> CartLine {
    let seed = mix(seed, 100 + nth);
    CartLine { cart_id, product_id: seed, units: (1 + seed % 9) as u32, note: text(seed, 24) }
}

/// A request with a deadline and a trace, as real ones have.
fn request<T>(seed: u64, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    let trace = trace(seed).parse().expect("hexadecimal digits and dashes are ASCII");
    request.metadata_mut().insert(TRACE, trace);
    request
}

/// The W3C trace context of the journey that `seed` stands for.
fn trace(seed: u64) -> String {
    format!("00-{:016x}{:016x}-{:016x}-01", mix(seed, 6), mix(seed, 7), mix(seed, 8))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tonic::body::Body;
    use tower::ServiceExt;

    use super::*;
    use crate::demo::services::testing::{self, Boxed, boxed};

    /// Walks each journey a few times and returns what was found.
    async fn walk_all(shop: Boxed) -> Vec<(Journey, Checks)> {
        let mut found = Vec::new();
        for journey in Journey::value_variants() {
            let mut checks = Checks::default();
            for seed in 0..3 {
                journey.walk(&mut StorefrontClient::new(shop.clone()), seed, &mut checks).await;
            }
            found.push((*journey, checks));
        }
        found
    }

    #[tokio::test]
    async fn a_right_shop_has_nothing_wrong() {
        for (journey, checks) in walk_all(testing::storefront()).await {
            assert!(checks.checked >= 3, "{journey:?}: {checks:?}");
            assert_eq!((checks.wrong, checks.first_wrong), (0, None), "{journey:?}");
        }
    }

    #[tokio::test]
    async fn a_corrupted_reply_is_counted_as_wrong() {
        let corrupted = testing::storefront().map_response(|reply| reply.map(flip_last_bits));
        for (journey, checks) in walk_all(boxed(corrupted)).await {
            assert!(checks.wrong >= 3, "{journey:?}: {checks:?}");
            assert!(checks.first_wrong.is_some());
        }
    }

    /// Changes one bit of each frame's last byte: a digit, a letter or a pixel in the last message.
    fn flip_last_bits(body: Body) -> Body {
        Body::new(body.map_frame(|frame| {
            frame.map_data(|data| {
                let mut data = data.to_vec();
                *data.last_mut().expect("gRPC sends no empty frames") ^= 1;
                data.into()
            })
        }))
    }
}
