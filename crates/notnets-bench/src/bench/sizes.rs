//! How large messages are: one size, or sizes that are distributed as they are in fleets of services.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use notnets_cli_common::random::Random;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of the reply to a call that is not an echo, if the size is fixed.
pub const SMALL_REPLY: usize = 8;

/// How large requests and replies are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Always the same.
    Bytes(usize),
    /// Distributed.
    Profile(Profile),
}

/// Distributions of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Requests of 0 to 50 bytes, replies of 0 to 239.
    Tiny,
    /// Requests of 147 and replies of 42 bytes in the median, with a long tail of replies.
    Fleet,
    /// Small, but for one call in a hundred: 196 KB and a reply of 563 KB.
    Tail,
    /// 1 to 4 MiB both ways.
    Bulk,
}

/// Bytes of one call's request and reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of the request's payload.
    pub request: usize,
    /// Of the reply's.
    pub reply: usize,
}

/// Parts of all calls, and the size that those do not exceed.
type Quantiles = [(f64, f64)];

const FLEET_REQUESTS: &Quantiles = &[
    (0.0, 1.0),
    (0.25, 24.0),
    (0.5, 147.0),
    (0.75, 574.0),
    (0.9, 1910.0),
    (0.99, 12_044.0),
    (1.0, 30_025.0),
];
const FLEET_REPLIES: &Quantiles = &[
    (0.0, 1.0),
    (0.25, 5.0),
    (0.5, 42.0),
    (0.75, 187.0),
    (0.9, 1876.0),
    (0.99, 183_107.0),
    (1.0, 302_592.0),
];

impl Size {
    /// The sizes of `count` calls in a row, always the same for the same seed.
    pub fn draw(self, count: usize, seed: u64) -> Vec<Sizes> {
        let mut random = Random::new(seed);
        match self {
            Self::Bytes(request) => vec![Sizes { request, reply: SMALL_REPLY }; count],
            Self::Profile(profile) => (0..count).map(|_| profile.draw(&mut random)).collect(),
        }
    }
}

impl Profile {
    fn draw(self, random: &mut Random) -> Sizes {
        let request = random.part();
        let reply = random.part();
        let linear = |part: f64, least: f64, most: f64| (least + part * (most - least)).round() as usize;
        match self {
            Self::Tiny => Sizes { request: linear(request, 0.0, 50.0), reply: linear(reply, 0.0, 239.0) },
            Self::Fleet => Sizes { request: at(FLEET_REQUESTS, request), reply: at(FLEET_REPLIES, reply) },
            Self::Tail if request < 0.01 => Sizes { request: 196_000, reply: 563_000 },
            Self::Tail => Sizes { request: 1530, reply: 315 },
            Self::Bulk => {
                let mib = f64::from(1 << 20);
                Sizes { request: linear(request, mib, 4.0 * mib), reply: linear(reply, mib, 4.0 * mib) }
            }
        }
    }
}

/// The size at a part, on a straight line between the logarithms of its neighbours.
fn at(quantiles: &Quantiles, part: f64) -> usize {
    let above = quantiles.iter().position(|(limit, _)| part < *limit).unwrap_or(quantiles.len() - 1);
    let ((low, least), (high, most)) = (quantiles[above - 1], quantiles[above]);
    let along = (part - low) / (high - low);
    (least.ln() + along * (most.ln() - least.ln())).exp().round() as usize
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => f.pad(&bytes.to_string()),
            Self::Profile(profile) => {
                f.pad(profile.to_possible_value().as_ref().map_or("", |value| value.get_name()))
            }
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(profile) = Profile::from_str(text, false) {
            return Ok(Self::Profile(profile));
        }
        let units = [("k", 1 << 10), ("m", 1 << 20)];
        let lower = text.to_ascii_lowercase();
        let (number, unit) = units
            .iter()
            .find_map(|(suffix, unit)| Some((lower.strip_suffix(suffix)?, *unit)))
            .unwrap_or((&lower, 1));
        let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
        bytes
            .filter(|bytes| *bytes <= 4 << 20)
            .map(Self::Bytes)
            .ok_or_else(|| format!("{text}: not 0 to 4m bytes (64, 16k, 1m), nor tiny, fleet, tail or bulk"))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes(bytes) => serializer.serialize_u64(*bytes as u64),
            Self::Profile(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Bytes(usize),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Bytes(bytes) => Ok(Self::Bytes(bytes)),
            Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fleet_has_its_quantiles() {
        let mut sizes = Size::Profile(Profile::Fleet).draw(100_000, 1);
        let mut quantile = |part: f64, of: fn(&Sizes) -> usize| {
            sizes.sort_by_key(of);
            of(&sizes[(part * 1e5) as usize]) as f64
        };
        for (part, request, reply) in [(0.25, 24.0, 5.0), (0.5, 147.0, 42.0), (0.9, 1910.0, 1876.0)] {
            assert!((quantile(part, |sizes| sizes.request) / request - 1.0).abs() < 0.1);
            assert!((quantile(part, |sizes| sizes.reply) / reply - 1.0).abs() < 0.1);
        }
    }

    #[test]
    fn one_in_a_hundred_is_the_tail() {
        let large =
            Size::Profile(Profile::Tail).draw(100_000, 7).iter().filter(|s| s.reply == 563_000).count();
        assert!((900..1100).contains(&large), "{large}");
    }

    #[test]
    fn sizes_as_users_write_them() {
        for (text, size) in [
            ("0", Size::Bytes(0)),
            ("64", Size::Bytes(64)),
            ("16k", Size::Bytes(16 << 10)),
            ("4M", Size::Bytes(4 << 20)),
            ("bulk", Size::Profile(Profile::Bulk)),
        ] {
            assert_eq!(text.parse(), Ok(size));
            assert_eq!(serde_json::from_value(serde_json::to_value(size).unwrap()).ok(), Some(size));
        }
        for text in ["", "-1", "5m", "k", "huge"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
