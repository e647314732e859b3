//! A request's body that can be sent again from its beginning.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as HttpBody;
use tonic::Status;
use tonic::body::Body;

/// The most of a request that is kept until its server has begun to answer. A request beyond this is
/// not sent again.
const MAX_KEPT: usize = 1 << 20;

/// A part of a request's body.
#[derive(Clone, Debug)]
pub enum Part {
    /// Bytes, and whether they are the last.
    Data(Bytes, bool),
    /// Trailers, which end it.
    Trailers(HeaderMap),
    /// Its end, of which the last bytes did not know.
    End,
}

/// A body, with what was taken of it.
pub struct Replay {
    body: Body,
    kept: VecDeque<Part>,
    /// `None` when too much has passed for it to be kept.
    size: Option<usize>,
    /// Parts that are to be given again before the body goes on.
    again: usize,
}

impl Replay {
    /// Keeps what is taken of `body`.
    pub fn new(body: Body) -> Self {
        Self { body, kept: VecDeque::new(), size: Some(0), again: 0 }
    }

    /// Begins again, if everything that was taken is still there.
    pub fn rewind(&mut self) -> bool {
        self.again = self.kept.len();
        self.size.is_some()
    }

    /// Keeps nothing from now on.
    pub fn forget(&mut self) {
        self.size = None;
        // What has been given is not needed any more.
        let given = self.kept.len() - self.again;
        self.kept.drain(..given);
    }

    /// The next part.
    ///
    /// # Errors
    /// The body's own.
    pub async fn next(&mut self) -> Result<Part, Status> {
        if self.again > 0 {
            let part = self.kept[self.kept.len() - self.again].clone();
            self.again -= 1;
            return Ok(part);
        }
        let part = match poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await.transpose()? {
            None => Part::End,
            Some(frame) => match frame.into_data() {
                Ok(data) => Part::Data(data, self.body.is_end_stream()),
                Err(frame) => frame.into_trailers().map_or(Part::End, Part::Trailers),
            },
        };
        self.keep(&part);
        Ok(part)
    }

    fn keep(&mut self, part: &Part) {
        let Some(size) = self.size else { return };
        let length = if let Part::Data(data, _) = part { data.len() } else { 0 };
        if size + length > MAX_KEPT {
            self.size = None;
            self.kept.clear();
        } else {
            self.size = Some(size + length);
            self.kept.push_back(part.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn body(sizes: &[usize]) -> Replay {
        let frames: Vec<_> = sizes
            .iter()
            .map(|size| Ok::<_, Status>(http_body::Frame::data(Bytes::from(vec![7; *size]))))
            .collect();
        Replay::new(Body::new(StreamBody::new(tokio_stream::iter(frames)).boxed_unsync()))
    }

    async fn sizes(replay: &mut Replay) -> Vec<usize> {
        let mut sizes = Vec::new();
        while let Part::Data(data, _) = replay.next().await.expect("no error") {
            sizes.push(data.len());
        }
        sizes
    }

    #[tokio::test]
    async fn what_was_taken_is_given_again() {
        let mut replay = body(&[3, 0, 5]);
        replay.next().await.expect("a part");
        assert!(replay.rewind());
        assert_eq!(sizes(&mut replay).await, [3, 0, 5]);
        assert!(replay.rewind());
        replay.next().await.expect("a part");
        replay.forget();
        assert_eq!(sizes(&mut replay).await, [0, 5]);
        assert!(!replay.rewind());
    }

    #[tokio::test]
    async fn what_is_long_is_not_kept() {
        let mut replay = body(&[MAX_KEPT, 1, 2]);
        assert_eq!(sizes(&mut replay).await, [MAX_KEPT, 1, 2]);
        assert!(!replay.rewind());
    }
}
