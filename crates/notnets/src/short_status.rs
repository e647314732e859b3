//! The end of a call whose trailers are larger than its client accepts.

use std::borrow::Cow;

use notnets_core::call::HeadError;
use notnets_core::code::Code;

use crate::status_message;

/// Bytes of a trailers' head besides the message: its key, and its length.
const OVERHEAD: usize = 64;
/// Where it is not known how much the client accepts.
const LITTLE: usize = 512;

/// What is sent of an end that does not fit: the code, and as much of the message as does.
#[derive(Debug)]
pub(crate) struct ShortStatus {
    code: Code,
    message: String,
}

impl ShortStatus {
    /// Shortens the end of a call to what its client accepts. A call that ended well does not any more: its
    /// client would not know that trailers are missing.
    #[cold]
    pub(crate) fn new(error: &HeadError, code: Code, message: Option<&[u8]>) -> Self {
        let text = match message {
            Some(message) if code != Code::OK => status_message::decode(message).into(),
            _ if code != Code::OK => Cow::default(),
            _ => Cow::from(format!("the response's trailers could not be sent: {error}")),
        };
        let room = match error {
            HeadError::TooLarge { limit, .. } => limit.saturating_sub(OVERHEAD),
            HeadError::Key(_) => LITTLE,
        };
        let code = if code == Code::OK { Code::RESOURCE_EXHAUSTED } else { code };
        Self { code, message: status_message::encode_within(&text, room) }
    }

    /// Shortens the end of a call whose trailers were to be these.
    #[cold]
    pub(crate) fn of<'a>(
        error: &HeadError,
        code: Code,
        mut entries: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Self {
        let message = entries.find(|(key, _)| *key == status_message::KEY).map(|(_, message)| message);
        Self::new(error, code, message)
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// The trailers.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &[u8])> {
        (!self.message.is_empty()).then_some((status_message::KEY, self.message.as_bytes())).into_iter()
    }

    /// Says that an end was sent so.
    pub(crate) fn log(&self, error: &HeadError) {
        tracing::warn!(%error, code = %self.code, "a response's end was cut to its code and message");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERROR: HeadError = HeadError::TooLarge { bytes: 1000, limit: 200 };

    #[test]
    fn the_code_stays_and_the_message_is_cut() {
        let message = "é".repeat(1000);
        let short = ShortStatus::new(&ERROR, Code::INVALID_ARGUMENT, Some(message.as_bytes()));
        assert_eq!(short.code(), Code::INVALID_ARGUMENT);
        let [(status_message::KEY, text)] = short.entries().collect::<Vec<_>>()[..] else { panic!() };
        assert!(text.len() <= 200 - OVERHEAD && text.len() > 100, "{}", text.len());
        let text = status_message::decode(text);
        assert!(text.ends_with("é…") && !text.contains('\u{fffd}'), "{text}");
    }

    #[test]
    fn one_without_a_message_has_none() {
        let short = ShortStatus::of(&ERROR, Code(5), [("a", &b"b"[..])].into_iter());
        assert_eq!((short.code(), short.entries().count()), (Code(5), 0));
    }

    #[test]
    fn what_ended_well_did_not_arrive_so() {
        let short = ShortStatus::of(&ERROR, Code::OK, [("a", &b"b"[..])].into_iter());
        assert_eq!((short.code(), short.entries().count()), (Code::RESOURCE_EXHAUSTED, 1));
    }

    #[test]
    fn where_there_is_no_room_there_is_no_message() {
        let error = HeadError::TooLarge { bytes: 1000, limit: 20 };
        assert_eq!(ShortStatus::new(&error, Code(5), Some(b"why")).entries().count(), 0);
    }
}
