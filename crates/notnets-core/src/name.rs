//! Names of services, and the URIs that carry them.
//!
//! A service is called by one [`Name`]. A [`Uri`] determines in which domain the name is looked up:
//! `notnets:///inventory` on this host, `notnets://pod0/inventory` in the pod named `pod0`. A dot is this
//! host too: `notnets://./inventory` is the same as `notnets:///inventory`, for programs whose type of a URI
//! takes none without a host, as that of the crate `http`.
//!
//! A name is also a file name in the rendezvous directory, hence its narrow alphabet: one segment of
//! 1 to 64 characters out of `A-Z a-z 0-9 . _ -`, that does not begin with a dot. Anything else is an
//! error that suggests what to write instead.
//!
//! ```
//! use notnets_core::name::{Name, Uri};
//!
//! let uri: Uri = "notnets:///inventory".parse()?;
//! assert_eq!(uri.name().as_str(), "inventory");
//! assert_eq!(uri.pod(), None);
//!
//! let uri: Uri = "notnets://pod0/inventory".parse()?;
//! assert_eq!(uri.pod().map(Name::as_str), Some("pod0"));
//! assert_eq!(uri.to_string(), "notnets://pod0/inventory");
//! # Ok::<(), notnets_core::name::UriError>(())
//! ```

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The most characters a name can have. Leaves room for the directory in the 108 bytes of a Unix socket's
/// path.
pub const MAX_NAME_LENGTH: usize = 64;

/// The scheme of a NotNets URI, without its colon.
pub const SCHEME: &str = "notnets";

/// Stands for this host where a URI must have a host. No pod can have this name.
pub const THIS_HOST: &str = ".";

/// The URI of a service: a name, on this host or in a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uri {
    pod: Option<Name>,
    name: Name,
}

impl Uri {
    /// The URI of a service on this host.
    pub fn on_host(name: Name) -> Self {
        Uri { pod: None, name }
    }

    /// The URI of a service in a pod.
    pub fn in_pod(pod: Name, name: Name) -> Self {
        Uri { pod: Some(pod), name }
    }

    /// The pod in which the name is looked up, or `None` for this host.
    pub fn pod(&self) -> Option<&Name> {
        self.pod.as_ref()
    }

    /// The name of the service.
    pub fn name(&self) -> &Name {
        &self.name
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(input: &str) -> Result<Self, UriError> {
        let rest = after_scheme(input)?;
        let Some(rest) = rest.strip_prefix("//") else {
            return Err(UriError::NoSlashes { input: shown(input), instead: on_this_host(rest) });
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let pod = match authority {
            "" | THIS_HOST => None,
            pod => Some(part(input, "pod", pod)?),
        };
        if path.is_empty() {
            return Err(no_name(input, pod));
        }
        if path.contains('/') {
            return Err(UriError::MoreThanOneSegment { input: shown(input) });
        }
        Ok(Uri { pod, name: part(input, "service", path)? })
    }
}

/// Returns the part behind `notnets:`. As in every URI, the scheme's case does not matter.
fn after_scheme(input: &str) -> Result<&str, UriError> {
    match input.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => Ok(rest),
        Some(_) => Err(UriError::OtherScheme { input: shown(input) }),
        None => Err(UriError::NoScheme { input: shown(input), instead: on_this_host(input) }),
    }
}

fn part(input: &str, role: &'static str, text: &str) -> Result<Name, UriError> {
    text.parse().map_err(|reason| UriError::Name { input: shown(input), role, reason })
}

/// `notnets://greeter` is most likely meant as a service of this host: the error offers both readings.
fn no_name(input: &str, pod: Option<Name>) -> UriError {
    let instead = match pod {
        Some(pod) => {
            format!(
                "`{SCHEME}:///{pod}` for the service {pod} of this host, or `{SCHEME}://{pod}/NAME` for one in the pod {pod}"
            )
        }
        None => format!("`{SCHEME}:///NAME`"),
    };
    UriError::NoName { input: shown(input), instead }
}

/// The URI that was probably meant by a bare or half-written name.
fn on_this_host(text: &str) -> String {
    let name = text.trim_matches('/').parse::<Name>();
    format!("{SCHEME}:///{}", name.as_ref().map_or("NAME", Name::as_str))
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pod = self.pod.as_ref().map_or("", Name::as_str);
        write!(f, "{SCHEME}://{pod}/{}", self.name)
    }
}

/// The name of a service or of a pod: 1 to 64 characters out of `A-Z a-z 0-9 . _ -`, the first not a dot.
///
/// Upper and lower case are different names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

/// The beginning of names that cannot be asked for.
pub(crate) const HIDDEN: &str = ".at-";

/// The beginning of names of sockets that are about to take another's place.
pub(crate) const COMING: &str = ".new-";

/// Separates a service's name from a replica's number.
const REPLICA: char = '@';

impl Name {
    /// A name that no text is parsed as, for what is not looked for by its name.
    pub fn hidden(number: u64) -> Self {
        Name(format!("{HIDDEN}{number:016x}").into())
    }

    /// A name that no text is parsed as, for a socket that does not belong to a service: a dot and another
    /// name's text.
    pub fn private(label: &str, name: &Name) -> Self {
        Name(format!(".{label}-{name}").into())
    }

    /// The address of one of several servers of this name: the name, `@` and the number in hexadecimal, which
    /// no text is parsed as.
    pub fn replica(&self, number: u32) -> Self {
        Name(format!("{}{REPLICA}{number:08x}", self.0).into())
    }

    /// The number of the replica whose address this is, as text; `None` for every other name.
    pub fn replica_number(&self) -> Option<&str> {
        self.0.split_once(REPLICA).map(|(_, number)| number)
    }

    /// The name of the service that is served at this address: itself, unless this is a replica's address.
    pub fn service(&self) -> Self {
        let service = self.0.split_once(REPLICA).map_or(&*self.0, |(service, _)| service);
        Name(service.into())
    }

    /// The address of a service's socket with this file name, if it is one: a name, or that of a replica.
    pub fn from_file_name(text: &str) -> Option<Self> {
        let Some((service, number)) = text.split_once(REPLICA) else { return text.parse().ok() };
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_number = number.len() == 8 && number.bytes().all(is_digit);
        (is_number && service.parse::<Name>().is_ok()).then(|| Name(text.into()))
    }

    /// The name of a socket that is about to take another's place.
    pub(crate) fn coming(number: u32) -> Self {
        Name(format!("{COMING}{number:08x}").into())
    }

    /// Returns `true` if it is [hidden](Self::hidden).
    pub fn is_hidden(&self) -> bool {
        self.0.starts_with(HIDDEN)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if let Some(character) =
            text.chars().find(|c| !matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '_' | '-'))
        {
            return Err(NameError::Character { name: shown(text), character });
        }
        if text.starts_with('.') {
            return Err(NameError::LeadingDot { name: shown(text) });
        }
        if text.len() > MAX_NAME_LENGTH {
            return Err(NameError::TooLong { name: shown(text), length: text.len() });
        }
        Ok(Name(text.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is no character in it.
    #[error("a name is empty: write 1 to {MAX_NAME_LENGTH} characters")]
    Empty,
    /// It has more than [`MAX_NAME_LENGTH`] characters.
    #[error("the name `{name}` has {length} characters: write at most {MAX_NAME_LENGTH}")]
    TooLong {
        /// The text, cut where it is long.
        name: String,
        /// How many characters it has.
        length: usize,
    },
    /// It begins with a dot, as hidden files do.
    #[error("the name `{name}` begins with a dot: begin it with a letter, a digit, `_` or `-`")]
    LeadingDot {
        /// The text, cut where it is long.
        name: String,
    },
    /// It has a character that names don't have.
    #[error("the name `{name}` contains {character:?}: write letters A-Z a-z, digits, `.`, `_` and `-` only")]
    Character {
        /// The text, cut where it is long.
        name: String,
        /// The first character that is not allowed.
        character: char,
    },
}

/// Why a text is not a [`Uri`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UriError {
    /// It is the URI of another transport.
    #[error(
        "`{input}` is not a {SCHEME}: URI: for servers over HTTP/2 use `Channel::named` with the feature http2, or `notnets proxy`; \
         for others write `{SCHEME}:///NAME`"
    )]
    OtherScheme {
        /// The text, cut where it is long.
        input: String,
    },
    /// It has no scheme.
    #[error("`{input}` is not a {SCHEME}: URI, for it has no scheme: write `{instead}`")]
    NoScheme {
        /// The text, cut where it is long.
        input: String,
        /// The spelling that was probably meant.
        instead: String,
    },
    /// `//` does not follow the scheme.
    #[error("`{input}` lacks the slashes after `{SCHEME}:`: write `{instead}`")]
    NoSlashes {
        /// The text, cut where it is long.
        input: String,
        /// The spelling that was probably meant.
        instead: String,
    },
    /// It names no service.
    #[error("`{input}` names no service: write {instead}")]
    NoName {
        /// The text, cut where it is long.
        input: String,
        /// The spelling that was probably meant.
        instead: String,
    },
    /// Its path has several segments.
    #[error(
        "`{input}` has more than one segment after the host: a name is one, write `{SCHEME}:///NAME` without further slashes"
    )]
    MoreThanOneSegment {
        /// The text, cut where it is long.
        input: String,
    },
    /// The name of its service or of its pod is not a name.
    #[error("`{input}` has no valid {role} name: {reason}")]
    Name {
        /// The text, cut where it is long.
        input: String,
        /// Which of its names: "service" or "pod".
        role: &'static str,
        /// The fault of the name.
        reason: NameError,
    },
}

/// Foreign text as an error shows it: control characters escaped, at most 80 characters.
fn shown(text: &str) -> String {
    const MAX_SHOWN: usize = 80;
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(input: &str) -> String {
        input.parse::<Uri>().expect_err("is not a URI of ours").to_string()
    }

    #[test]
    fn other_schemes_are_sent_to_the_transport_that_speaks_them() {
        for input in ["http://[::1]:50051", "https://shop/x", "unix:///run/x", "localhost:50051"] {
            let error = error(input);
            assert!(error.starts_with(&format!("`{input}` is not a notnets: URI")), "{error}");
            assert!(error.contains("`Channel::named` with the feature http2, or `notnets proxy`"), "{error}");
        }
    }

    #[test]
    fn half_written_uris_say_what_to_write() {
        for (input, advice) in [
            ("greeter", "write `notnets:///greeter`"),
            ("/greeter", "write `notnets:///greeter`"),
            ("what ever", "write `notnets:///NAME`"),
            ("notnets:greeter", "write `notnets:///greeter`"),
            ("notnets:/greeter", "write `notnets:///greeter`"),
            (
                "notnets://greeter",
                "write `notnets:///greeter` for the service greeter of this host, or `notnets://greeter/NAME`",
            ),
            ("notnets://greeter/", "write `notnets:///greeter` for"),
            ("notnets:///", "write `notnets:///NAME`"),
            ("notnets://", "write `notnets:///NAME`"),
            ("notnets://./", "write `notnets:///NAME`"),
            ("notnets://../greeter", "no valid pod name: the name `..` begins with a dot"),
            ("notnets:///greeter/", "without further slashes"),
            ("notnets:///shop/greeter", "without further slashes"),
            ("notnets:///.greeter", "no valid service name: the name `.greeter` begins with a dot"),
            ("notnets:///gr%65eter", "contains '%'"),
            ("notnets:///greeter?x=1", "contains '?'"),
            ("notnets://pod:1/greeter", "no valid pod name: the name `pod:1` contains ':'"),
        ] {
            let error = error(input);
            assert!(error.contains(advice), "{input} gave: {error}");
        }
    }

    #[test]
    fn errors_neither_repeat_endless_input_nor_control_characters() {
        let error = error(&format!("\u{1b}[31m{}", "x".repeat(10_000)));
        assert!(error.len() < 300 && !error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn length_is_limited() {
        assert!("x".repeat(MAX_NAME_LENGTH).parse::<Name>().is_ok());
        let error = "x".repeat(MAX_NAME_LENGTH + 1).parse::<Name>().expect_err("is too long");
        assert!(error.to_string().contains("has 65 characters: write at most 64"), "{error}");
        assert_eq!("".parse::<Name>(), Err(NameError::Empty));
    }

    #[test]
    fn the_scheme_has_no_case_but_names_do() {
        let upper: Uri = "NotNets:///Greeter".parse().expect("is a URI");
        let lower: Uri = "notnets:///greeter".parse().expect("is a URI");
        assert_eq!(upper.to_string(), "notnets:///Greeter");
        assert_ne!(upper, lower);
    }

    #[test]
    fn a_dot_is_this_host() {
        let uri: Uri = "notnets://./greeter".parse().expect("is a URI");
        assert_eq!(uri, "notnets:///greeter".parse().expect("is a URI"));
        assert_eq!(uri.pod(), None);
    }

    fn name() -> impl Strategy<Value = Name> {
        "[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}".prop_map(|text| text.parse().expect("is a name"))
    }

    #[test]
    fn addresses_of_replicas_are_no_names() {
        let inventory: Name = "inventory".parse().expect("is a name");
        let replica = inventory.replica(0x1f3a);
        assert_eq!(replica.as_str(), "inventory@00001f3a");
        assert!(replica.as_str().parse::<Name>().is_err());
        assert_eq!(Name::from_file_name("inventory@00001f3a"), Some(replica.clone()));
        assert_eq!((replica.service(), replica.replica_number()), (inventory.clone(), Some("00001f3a")));
        assert_eq!((inventory.service(), inventory.replica_number()), (inventory.clone(), None));
        assert_eq!(Name::from_file_name("inventory"), Some(inventory));
        for other in ["", "@00001f3a", ".x@00001f3a", "x@1f3a", "x@00001F3A", "x@0000@f3a", "x@", ".at-0"] {
            assert_eq!(Name::from_file_name(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn uris_come_back_from_their_text(pod in proptest::option::of(name()), name in name()) {
            let uri = Uri { pod, name };
            prop_assert_eq!(uri.to_string().parse::<Uri>(), Ok(uri));
        }

        #[test]
        fn what_parses_prints_as_it_was_written(text in "(notnets:/{0,4})?[A-Za-z./: \u{e9}-]{0,12}(/[a-z.]{0,4})?") {
            if let Ok(uri) = text.parse::<Uri>() {
                prop_assert_eq!(uri.to_string(), text.replace("//./", "///"));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            let _ = text.parse::<Uri>();
            let _ = format!("notnets:///{text}").parse::<Uri>();
        }
    }
}
