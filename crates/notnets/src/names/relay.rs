//! One resolver for several channels.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::resolve::{Address, BoxError, Resolve};

/// A resolver that each of its clones is: all yield what the one beneath them has found last.
pub(super) struct Relay {
    source: Arc<Mutex<Source>>,
    waiting: Arc<Waiting>,
    /// The number of the clone.
    number: u64,
    /// The number of the list that this clone has yielded.
    seen: u64,
}

struct Source {
    resolver: Box<dyn Resolve>,
    /// What was found last. The first has the number 1.
    found: Result<Vec<Address>, Arc<str>>,
    number: u64,
}

/// Who waits for the next list, by the numbers of the clones.
#[derive(Default)]
struct Waiting {
    wakers: Mutex<HashMap<u64, Waker>>,
    next: AtomicU64,
}

impl Relay {
    pub(super) fn new(resolver: Box<dyn Resolve>) -> Self {
        let source = Source { resolver, found: Ok(Vec::new()), number: 0 };
        Self::of(Arc::new(Mutex::new(source)), Arc::default())
    }

    fn of(source: Arc<Mutex<Source>>, waiting: Arc<Waiting>) -> Self {
        // It orders nothing.
        let number = waiting.next.fetch_add(1, Ordering::Relaxed);
        Self { source, waiting, number, seen: 0 }
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Relay {
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.source), Arc::clone(&self.waiting))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.waiting.wakers().remove(&self.number);
    }
}

impl Resolve for Relay {
    fn poll_servers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Address>, BoxError>> {
        // Before the look, so that no list falls between the two.
        self.waiting.wakers().insert(self.number, cx.waker().clone());
        let all = Waker::from(Arc::clone(&self.waiting));
        let mut source = self.source();
        if let Poll::Ready(found) = source.resolver.poll_servers(&mut Context::from_waker(&all)) {
            source.found = found.map_err(|error| error.to_string().into());
            source.number += 1;
            all.wake();
        }
        let number = source.number;
        if number == self.seen {
            return Poll::Pending;
        }
        let found = source.found.clone();
        drop(source);
        self.seen = number;
        Poll::Ready(found.map_err(|error| BoxError::from(&*error)))
    }

    fn look_again(&mut self) {
        self.source().resolver.look_again();
    }
}

impl Waiting {
    fn wakers(&self) -> MutexGuard<'_, HashMap<u64, Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes all that wait.
impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        let waiting = std::mem::take(&mut *self.wakers());
        waiting.into_values().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::mpsc;

    use super::*;

    /// A resolver that is told what to find, and counts how often it is to look again.
    struct Told {
        lists: mpsc::UnboundedReceiver<Result<Vec<Address>, BoxError>>,
        looks: Arc<AtomicU64>,
    }

    impl Resolve for Told {
        fn poll_servers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Address>, BoxError>> {
            self.lists.poll_recv(cx).map(|list| list.expect("the test goes on"))
        }

        fn look_again(&mut self) {
            self.looks.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn next(relay: &mut Relay) -> Result<Vec<Address>, String> {
        poll_fn(|cx| relay.poll_servers(cx)).await.map_err(|error| error.to_string())
    }

    fn list(name: &str) -> Vec<Address> {
        vec![Address::new(format!("notnets:///{name}")).expect("a URI")]
    }

    #[tokio::test]
    async fn each_clone_gets_each_list() {
        let (tell, lists) = mpsc::unbounded_channel();
        let looks = Arc::default();
        let mut first = Relay::new(Box::new(Told { lists, looks: Arc::clone(&looks) }));
        let mut second = first.clone();
        for name in ["a", "b"] {
            let waiting = tokio::spawn(async move { (next(&mut second).await, second) });
            tokio::task::yield_now().await;
            tell.send(Ok(list(name))).expect("it listens");
            let (found, back) = waiting.await.expect("no panic");
            second = back;
            assert_eq!(found, Ok(list(name)));
            assert_eq!(next(&mut first).await, Ok(list(name)));
        }
        // One that comes later begins with what is known.
        assert_eq!(next(&mut first.clone()).await, Ok(list("b")));
        tell.send(Err("gone".into())).expect("it listens");
        assert_eq!(next(&mut first).await, Err("gone".to_owned()));
        assert_eq!(next(&mut second).await, Err("gone".to_owned()));
        second.look_again();
        assert_eq!(looks.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn one_that_has_gone_is_woken_no_more() {
        let (_tell, lists) = mpsc::unbounded_channel();
        let mut first = Relay::new(Box::new(Told { lists, looks: Arc::default() }));
        let poll =
            |relay: &mut Relay| relay.poll_servers(&mut Context::from_waker(Waker::noop())).is_pending();
        let mut second = first.clone();
        assert!(poll(&mut first) && poll(&mut second));
        drop(second);
        assert_eq!(first.waiting.wakers().len(), 1);
    }
}
