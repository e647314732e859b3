//! `notnets health`, as probes run it.

use std::time::Instant;

use crate::frames::Server;
use crate::support::{Reflection, World, server_of, unbound};

#[tokio::test]
async fn the_exit_code_tells_whether_a_server_is_serving() {
    let world = World::new();
    // Reflection is not needed.
    let plain = server_of(Reflection::Neither).await;
    for server in world.servers().await.into_iter().chain([plain]) {
        for service in ["", "notnets.probe.Probe"] {
            let served = world.run(["health", &server, service]).await;
            assert_eq!((served.code(), served.out()), (Some(0), "SERVING\n"), "{}", served.err());
        }
        let unknown = world.run(["health", &server, "shop.Cart"]).await;
        assert_eq!((unknown.code(), unknown.out()), (Some(64 + 5), ""));
        assert!(unknown.err().contains("does not know that service"), "{}", unknown.err());
    }
}

#[tokio::test]
async fn a_service_that_is_not_serving_is_no_success() {
    let world = World::new();
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop.Cart", tonic_health::ServingStatus::NotServing).await;
    let bound = notnets::Server::builder().directory(world.names()).add_service(health);
    let bound = bound.bind("notnets:///shop").await.expect("a free name");
    tokio::spawn(bound.serve());
    let ended = world.run(["health", "shop", "shop.Cart"]).await;
    assert_eq!((ended.code(), ended.out()), (Some(1), "NOT_SERVING\n"));
    assert!(ended.err().contains("shop.Cart at notnets:///shop is NOT_SERVING"), "{}", ended.err());
}

#[tokio::test]
async fn a_server_that_is_not_there_or_says_nothing_is_no_success() {
    let world = World::new();
    let gone = unbound().await;
    let silent = Server::new().await;
    for (server, code) in [(gone.as_str(), 14), ("notnets:///nobody", 14), (silent.address.as_str(), 4)] {
        let begin = Instant::now();
        let ended = world.run(["health", server, "--timeout", "300ms"]).await;
        assert_eq!(ended.code(), Some(64 + code), "{}", ended.err());
        assert_eq!(ended.out(), "");
        assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
    }
}
