//! Who is let in.

use crate::support::{Authority, Rig, frame, number, within};
use keyferry_net::{ClientConfig, Connector, Credentials, ErrorKind, Protocols, ServerConfig};
use rustls::{ProtocolVersion, RootCertStore};
use std::sync::Arc;

async fn speaks(protocols: Protocols, version: ProtocolVersion) {
    let rig = Rig::new().await;
    let credentials = rig.authority.credentials("alice").with_protocols(protocols);
    let connector = Connector::new(
        rig.address(),
        ClientConfig::new(&credentials, "localhost").unwrap(),
    );
    let mut connection = connector.connect().await.unwrap();
    assert_eq!(connection.peer().name, "server");
    assert_eq!(number(&connection.call(&frame(7, 100)).await.unwrap()), 7);
    assert_eq!(rig.toy.callers.lock().unwrap()[0].name, "alice");
    assert_eq!(
        connection.into_stream().get_ref().1.protocol_version(),
        Some(version)
    );
    assert_eq!(
        (
            rig.handle.counters().accepted(),
            rig.handle.counters().refused()
        ),
        (1, 0)
    );
}

#[tokio::test]
async fn mutual_tls_12() {
    within(speaks(Protocols::Tls12, ProtocolVersion::TLSv1_2)).await;
}

#[tokio::test]
async fn mutual_tls_13() {
    within(speaks(Protocols::Tls13, ProtocolVersion::TLSv1_3)).await;
}

#[tokio::test]
async fn the_newer_version_is_preferred() {
    within(speaks(Protocols::Both, ProtocolVersion::TLSv1_3)).await;
}

#[tokio::test]
async fn certificates_are_exchanged_while_the_server_runs() {
    within(async {
        let rig = Rig::new().await;
        let mut old = rig.connect().await;
        old.call(&frame(1, 0)).await.unwrap();
        let next = Authority::new();
        rig.handle
            .reloader()
            .reload(&ServerConfig::new(&next.credentials("renewed")).unwrap());
        let connector = Connector::new(rig.address(), next.client("alice"));
        let mut new = connector.connect().await.unwrap();
        new.call(&frame(2, 0)).await.unwrap();
        assert_eq!(
            (old.peer().name.as_str(), new.peer().name.as_str()),
            ("server", "renewed")
        );
        // Who was let in stays; nobody else gets in by the old authority.
        old.call(&frame(3, 0)).await.unwrap();
        let trusting = |by: &Authority, of: &Authority| {
            let pair = by.issue(&[]);
            let credentials = Credentials::new(
                vec![of.certificate.clone()],
                vec![pair.certificate],
                pair.key,
            );
            ClientConfig::new(&credentials, "localhost").unwrap()
        };
        let stranger = Connector::new(rig.address(), trusting(&rig.authority, &next));
        let refused = match stranger.connect().await {
            Ok(mut connection) => connection.call(&frame(4, 0)).await.map(drop),
            Err(error) => Err(error),
        };
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Tls);
        assert_eq!(
            rig.connector().connect().await.err().unwrap().kind(),
            ErrorKind::Tls
        );
        rig.until(|counters| counters.refused() == 2).await;
        assert_eq!(rig.handle.counters().accepted(), 2);
    })
    .await;
}

/// Connects and calls; with TLS 1.3 the refusal comes with the first answer.
async fn refused(rig: &Rig, config: ClientConfig) -> ErrorKind {
    let result = match Connector::new(rig.address(), config).connect().await {
        Ok(mut connection) => connection.call(&frame(1, 0)).await.map(drop),
        Err(error) => Err(error),
    };
    let before = rig.handle.counters();
    rig.until(|counters| counters.refused() > 0).await;
    assert_eq!((before.accepted(), before.requests()), (0, 0));
    let mut other = rig.connect().await;
    other.call(&frame(2, 0)).await.expect("the server goes on");
    result.unwrap_err().kind()
}

#[tokio::test]
async fn client_of_an_unknown_authority_is_refused() {
    for protocols in [Protocols::Tls12, Protocols::Tls13] {
        within(async {
            let rig = Rig::new().await;
            let stranger = Authority::new();
            let pair = stranger.issue(&[(rcgen::DnType::CommonName, "stranger")]);
            // It trusts the server, but the server does not trust it.
            let credentials = keyferry_net::Credentials::new(
                vec![rig.authority.certificate.clone()],
                vec![pair.certificate],
                pair.key,
            )
            .with_protocols(protocols);
            let kind = refused(&rig, ClientConfig::new(&credentials, "localhost").unwrap()).await;
            assert_eq!(kind, ErrorKind::Tls, "{protocols:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn client_without_a_certificate_is_refused() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        within(async {
            let rig = Rig::new().await;
            let mut roots = RootCertStore::empty();
            roots.add(rig.authority.certificate.clone()).unwrap();
            let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
                rustls::crypto::ring::default_provider(),
            ))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
            let kind = refused(
                &rig,
                ClientConfig::from_tls(Arc::new(tls), "localhost").unwrap(),
            )
            .await;
            assert_eq!(kind, ErrorKind::Tls, "{version:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn server_of_an_unknown_authority_is_refused() {
    within(async {
        let rig = Rig::new().await;
        let config = Authority::new().client("client");
        let error = Connector::new(rig.address(), config)
            .connect()
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    })
    .await;
}

#[tokio::test]
async fn server_with_another_name_is_refused() {
    within(async {
        let rig = Rig::new().await;
        let config =
            ClientConfig::new(&rig.authority.credentials("client"), "kms.example").unwrap();
        let error = Connector::new(rig.address(), config)
            .connect()
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    })
    .await;
}

#[tokio::test]
async fn nobody_there() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = Connector::new(port.to_string(), Authority::new().client("client"))
        .connect()
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}
