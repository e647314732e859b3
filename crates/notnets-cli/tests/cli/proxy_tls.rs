//! `notnets proxy` and TLS: towards clients, towards servers, and with certificates that are renewed.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::Signal;

use crate::support::{Ended, Proxy, World};

/// Files of one that vouches for others, and of a certificate for this host.
struct Files<'a> {
    world: &'a World,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl<'a> Files<'a> {
    /// Writes `ca.pem`, `tls.pem` and `tls.key`, in place of those that were there.
    fn new(world: &'a World) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        let files = Self { world, authority: authority.expect("a certificate") };
        files.write("ca.pem", &files.authority.pem());
        files.vouch();
        files
    }

    fn vouch(&self) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.authority).expect("a certificate");
        self.write("tls.pem", &certificate.pem());
        self.write("tls.key", &key.serialize_pem());
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.world.path(file), text).expect("writable");
    }
}

fn path(world: &World, file: &str) -> String {
    world.path(file).to_str().expect("UTF-8").to_owned()
}

/// A proxy that speaks TLS with its clients, which have to show who they are.
async fn secured(world: &World, to: &str) -> Proxy {
    let [ca, cert, key] = ["ca.pem", "tls.pem", "tls.key"].map(|file| path(world, file));
    let listen = ["proxy", "--listen", "https://127.0.0.1:0", "--to", to];
    let tls = ["--cert", &cert, "--key", &key, "--client-ca", &ca];
    let proxy = world.proxy_of(listen.into_iter().chain(tls)).await;
    assert!(proxy.address.starts_with("https://127.0.0.1:"), "{}", proxy.address);
    proxy
}

async fn call(world: &World, server: &str, tls: &[&str]) -> Ended {
    world.run(["health", server, "--timeout", "10s"].into_iter().chain(tls.iter().copied())).await
}

#[tokio::test]
async fn calls_go_by_tls_on_both_sides_of_a_proxy() {
    let world = World::new();
    Files::new(&world);
    let outer = secured(&world, &world.server().await).await;
    let [ca, cert, key] = ["ca.pem", "tls.pem", "tls.key"].map(|file| path(&world, file));
    let shown = ["--server-ca", &ca, "--client-cert", &cert, "--client-key", &key];
    let answer = call(&world, &outer.address, &shown).await;
    assert_eq!(answer.code(), Some(0), "{}", answer.err());
    for (tls, words) in [
        (&shown[..2], "it wants a certificate of this side"),
        (&shown[2..], "no root of this side vouches for its certificate"),
    ] {
        let answer = call(&world, &outer.address, tls).await;
        assert!(answer.code() == Some(64 + 14) && answer.err().contains(words), "{}", answer.err());
    }
    // The way of most: a process of this host speaks no TLS, and its proxy does.
    for to in [outer.address.clone(), format!("notnets:///absent,{}", outer.address)] {
        let listen = ["proxy", "--listen", "127.0.0.1:0", "--to", &to];
        let inner = world.proxy_of(listen.into_iter().chain(shown)).await;
        let answer = call(&world, &inner.address, &[]).await;
        assert_eq!(answer.code(), Some(0), "{}", answer.err());
    }
}

#[tokio::test]
async fn certificates_are_renewed_by_a_signal() {
    let world = World::new();
    let files = Files::new(&world);
    let mut outer = secured(&world, &world.server().await).await;
    let [ca, cert, key] = ["ca.pem", "tls.pem", "tls.key"].map(|file| path(&world, file));
    let config = serde_json::json!({"listeners": [{
        "listen": "127.0.0.1:0",
        "routes": [{"to": outer.address, "tls": {"ca": ca, "certificate": cert, "key": key}}],
    }]});
    files.write("proxy.json", &config.to_string());
    let mut inner = world.proxy_of(["proxy", "--config", &path(&world, "proxy.json")]).await;
    assert_eq!(call(&world, &inner.address, &[]).await.code(), Some(0));

    // All are new, and the outer proxy's clients have to be of the new kind.
    let files = Files::new(&world);
    outer.signal(Signal::HUP);
    assert_eq!(outer.line().await, format!("RELOADED {}", outer.address));
    let answer = call(&world, &inner.address, &[]).await;
    assert!(answer.err().contains("no root of this side vouches"), "{}", answer.err());
    inner.signal(Signal::HUP);
    assert_eq!(inner.line().await, format!("RELOADED {}", inner.address));
    let answer = call(&world, &inner.address, &[]).await;
    assert_eq!(answer.code(), Some(0), "{}", answer.err());

    // Nonsense changes nothing.
    files.write("tls.pem", "nonsense");
    outer.signal(Signal::HUP);
    inner.signal(Signal::HUP);
    let answer = call(&world, &inner.address, &[]).await;
    assert_eq!(answer.code(), Some(0), "{}", answer.err());
    for proxy in [outer, inner] {
        proxy.signal(Signal::TERM);
        let (status, err) = proxy.ended().await;
        assert!(status.success() && err.contains("all stays as it was: "), "{err}");
        assert!(err.contains("has no certificate; it has to be PEM"), "{err}");
    }
}

#[tokio::test]
async fn what_tls_lacks_is_told() {
    let world = World::new();
    let proxy = ["proxy", "--to", "notnets:///shop", "--listen"];
    for (arguments, words) in [
        (&["https://127.0.0.1:0"][..], "https://127.0.0.1:0 needs a certificate and its key: add --cert and"),
        (&["127.0.0.1:0", "--cert", "/a", "--key", "/b"], "nothing on 127.0.0.1:0 is by TLS"),
        (&["https://127.0.0.1:0", "--cert", "/none", "--key", "/none"], "cannot read /none: No such file"),
        (&["https://127.0.0.1:0", "--cert", "/none"], "--key <FILE>"),
    ] {
        let ended = world.run(proxy.into_iter().chain(arguments.iter().copied())).await;
        assert!(ended.code() != Some(0) && ended.err().contains(words), "{arguments:?}: {}", ended.err());
    }
}
