//! A client with nothing but the codec: a Query over any stream, and how it looks over TLS.
//! `cargo run --example codec_only`, or with `-- --connect HOST:PORT --ca FILE --cert FILE --key FILE` against a server.

use keyferry_examples::{Result, finish};
use keyferry_ttlv::{
    Context, Decode, Encode, Enumeration, Extra, Framer, Limits, Raw, Tag, Tagged, Version, decode,
    encode,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const HELP: &str = "\
codec_only: asks a KMIP server what it can, by the codec alone

  --connect HOST:PORT   the server; without it, one that plays in this process
  --ca FILE             whom to trust, PEM
  --cert FILE           the client's certificate, PEM
  --key FILE            its private key, PEM
";

// What a Query needs (KMIP 1.4 §4.25, §7.1). A type with a tag of its own needs no tag where it is a field.

const BATCH_COUNT: Tag = Tag::new(0x42000D);
const BATCH_ITEM: Tag = Tag::new(0x42000F);
const OBJECT_TYPE: Tag = Tag::new(0x420057);
const OPERATION: Tag = Tag::new(0x42005C);
const PROTOCOL_VERSION: Tag = Tag::new(0x420069);
const MAJOR: Tag = Tag::new(0x42006A);
const MINOR: Tag = Tag::new(0x42006B);
const QUERY_FUNCTION: Tag = Tag::new(0x420074);
const REQUEST_HEADER: Tag = Tag::new(0x420077);
const REQUEST_MESSAGE: Tag = Tag::new(0x420078);
const REQUEST_PAYLOAD: Tag = Tag::new(0x420079);
const RESPONSE_HEADER: Tag = Tag::new(0x42007A);
const RESPONSE_MESSAGE: Tag = Tag::new(0x42007B);
const RESPONSE_PAYLOAD: Tag = Tag::new(0x42007C);
const RESULT_MESSAGE: Tag = Tag::new(0x42007D);
const RESULT_REASON: Tag = Tag::new(0x42007E);
const RESULT_STATUS: Tag = Tag::new(0x42007F);
const SERVER_INFORMATION: Tag = Tag::new(0x420088);
const VENDOR_IDENTIFICATION: Tag = Tag::new(0x42009D);

#[derive(Encode)]
#[ttlv(tag = REQUEST_MESSAGE)]
struct Request {
    header: RequestHeader,
    item: RequestItem,
}

#[derive(Encode)]
#[ttlv(tag = REQUEST_HEADER)]
struct RequestHeader {
    version: ProtocolVersion,
    #[ttlv(tag = BATCH_COUNT)]
    items: i32,
}

#[derive(Encode)]
#[ttlv(tag = PROTOCOL_VERSION)]
struct ProtocolVersion {
    #[ttlv(tag = MAJOR)]
    major: i32,
    #[ttlv(tag = MINOR)]
    minor: i32,
}

#[derive(Encode)]
#[ttlv(tag = BATCH_ITEM)]
struct RequestItem {
    #[ttlv(tag = OPERATION)]
    operation: Enumeration,
    payload: Query,
}

#[derive(Encode)]
#[ttlv(tag = REQUEST_PAYLOAD)]
struct Query {
    #[ttlv(tag = QUERY_FUNCTION)]
    functions: Vec<Enumeration>,
}

#[derive(Encode, Decode)]
#[ttlv(tag = RESPONSE_MESSAGE)]
struct Response {
    #[ttlv(tag = RESPONSE_HEADER)]
    header: Raw,
    item: ResponseItem,
}

#[derive(Encode, Decode)]
#[ttlv(tag = BATCH_ITEM)]
struct ResponseItem {
    #[ttlv(tag = RESULT_STATUS)]
    status: Enumeration,
    #[ttlv(tag = RESULT_REASON)]
    reason: Option<Enumeration>,
    #[ttlv(tag = RESULT_MESSAGE)]
    message: Option<String>,
    payload: Option<Abilities>,
    #[ttlv(extra)]
    extra: Extra,
}

#[derive(Encode, Decode)]
#[ttlv(tag = RESPONSE_PAYLOAD)]
struct Abilities {
    #[ttlv(tag = OPERATION)]
    operations: Vec<Enumeration>,
    #[ttlv(tag = OBJECT_TYPE)]
    object_types: Vec<Enumeration>,
    #[ttlv(tag = VENDOR_IDENTIFICATION)]
    vendor: Option<String>,
    #[ttlv(tag = SERVER_INFORMATION)]
    server_information: Option<Raw>,
    #[ttlv(extra)]
    extra: Extra,
}

/// Sends a message and reads its answer, over whatever carries bytes both ways.
fn call<A: Decode + Tagged>(
    stream: &mut (impl Read + Write),
    request: &(impl Encode + Tagged),
) -> Result<A> {
    let cx = Context::new(Version::V1_4);
    stream
        .write_all(&encode(request, cx)?)
        .and_then(|()| stream.flush())
        .map_err(plainly)?;
    let mut framer = Framer::new(Limits::DEFAULT.size);
    loop {
        if let Some(answer) = framer.frame() {
            return Ok(decode(&answer, cx)?);
        }
        match stream.read(framer.space()) {
            Ok(0) => return Err(plainly(ErrorKind::UnexpectedEof.into()).into()),
            Ok(n) => framer.filled(n)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(plainly(error).into()),
        }
    }
}

fn plainly(error: io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => {
            "the server closed the connection before its answer was complete".to_owned()
        }
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            "the server did not answer in time".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Asks for operations (1), object types (2) and what the server says about itself (3).
fn query(stream: &mut (impl Read + Write)) -> Result<Abilities> {
    let request = Request {
        header: RequestHeader {
            version: ProtocolVersion { major: 1, minor: 4 },
            items: 1,
        },
        item: RequestItem {
            operation: Enumeration(24),
            payload: Query {
                functions: [1, 2, 3].map(Enumeration).into(),
            },
        },
    };
    let ResponseItem {
        status,
        reason,
        message,
        payload,
        ..
    } = call::<Response>(stream, &request)?.item;
    if status != Enumeration(0) {
        let (reason, message) = (
            reason.map_or(0, |reason| reason.0),
            message.unwrap_or_default(),
        );
        return Err(format!(
            "the server refused: status {}, reason {reason}, message {message:?}",
            status.0
        )
        .into());
    }
    payload.ok_or_else(|| "the answer has no payload".into())
}

fn show(abilities: &Abilities) {
    let named = |values: &[Enumeration], names: &[(u32, &str)]| -> String {
        let name = |value: u32| {
            names
                .iter()
                .find(|(number, _)| *number == value)
                .map(|(_, name)| format!(" {name}"))
        };
        values
            .iter()
            .map(|value| format!("\n  {}{}", value.0, name(value.0).unwrap_or_default()))
            .collect()
    };
    println!(
        "operations{}",
        named(
            &abilities.operations,
            &[(1, "Create"), (3, "Register"), (10, "Get"), (24, "Query")]
        )
    );
    println!(
        "object types{}",
        named(
            &abilities.object_types,
            &[(1, "Certificate"), (2, "Symmetric Key"), (7, "Secret Data")]
        )
    );
    println!(
        "vendor identification\n  {}",
        abilities.vendor.as_deref().unwrap_or("(none)")
    );
    let raw = abilities.server_information.as_ref().map(|item| {
        item.bytes()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect()
    });
    println!(
        "server information\n  {}",
        raw.unwrap_or_else(|| "(none)".to_owned())
    );
}

/// Where a server is and what it is shown.
struct Peer {
    address: String,
    ca: String,
    certificate: String,
    key: String,
}

/// TLS as a KMIP server wants it: both sides show certificates.
fn connect(peer: &Peer) -> Result<rustls::StreamOwned<rustls::ClientConnection, TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(&peer.ca)? {
        roots
            .add(certificate)
            .map_err(|error| format!("{}: {error}", peer.ca))?;
    }
    let key = PrivateKeyDer::from_pem_file(&peer.key)
        .map_err(|error| format!("{}: {error}", peer.key))?;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()?
    .with_root_certificates(roots)
    .with_client_auth_cert(certificates(&peer.certificate)?, key)
    .map_err(|error| format!("{} and {}: {error}", peer.certificate, peer.key))?;
    let (host, _) = peer
        .address
        .rsplit_once(':')
        .ok_or_else(|| format!("{}: not HOST:PORT", peer.address))?;
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|error| format!("{host}: {error}"))?;
    let stream =
        TcpStream::connect(&peer.address).map_err(|error| format!("{}: {error}", peer.address))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(rustls::StreamOwned::new(
        rustls::ClientConnection::new(Arc::new(config), name)?,
        stream,
    ))
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(file)?.collect::<std::result::Result<Vec<_>, _>>();
    let found = read().map_err(|error| format!("{file}: {error}"))?;
    if found.is_empty() {
        Err(format!("{file}: no certificate in it").into())
    } else {
        Ok(found)
    }
}

fn main() -> ExitCode {
    finish(run())
}

fn run() -> Result<ExitCode> {
    let [mut address, mut ca, mut certificate, mut key] = [const { None::<String> }; 4];
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        use lexopt::prelude::*;
        match arg {
            Long("connect") => address = Some(args.value()?.string()?),
            Long("ca") => ca = Some(args.value()?.string()?),
            Long("cert") => certificate = Some(args.value()?.string()?),
            Long("key") => key = Some(args.value()?.string()?),
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            other => return Err(format!("{}; --help tells the options", other.unexpected()).into()),
        }
    }
    match (address, ca, certificate, key) {
        (None, None, None, None) => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            std::thread::spawn(move || play(&listener));
            show(&query(&mut TcpStream::connect(address)?)?);
        }
        (Some(address), Some(ca), Some(certificate), Some(key)) => {
            let peer = Peer {
                address,
                ca,
                certificate,
                key,
            };
            let mut stream = connect(&peer)?;
            show(&query(&mut stream).map_err(|error| format!("{}: {error}", peer.address))?);
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        _ => {
            return Err(
                "--connect, --ca, --cert and --key go together; --help tells the options".into(),
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The server in this process: answers the one request that it expects, byte for byte, and closes on any other.
fn play(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    let mut request = vec![0; REQUEST.len()];
    stream.read_exact(&mut request)?;
    if request == REQUEST {
        stream.write_all(ANSWER)
    } else {
        Ok(())
    }
}

const REQUEST: &[u8] = b"\
    \x42\x00\x78\x01\x00\x00\x00\x90\
    \x42\x00\x77\x01\x00\x00\x00\x38\
    \x42\x00\x69\x01\x00\x00\x00\x20\
    \x42\x00\x6A\x02\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x00\
    \x42\x00\x6B\x02\x00\x00\x00\x04\x00\x00\x00\x04\x00\x00\x00\x00\
    \x42\x00\x0D\x02\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x00\
    \x42\x00\x0F\x01\x00\x00\x00\x48\
    \x42\x00\x5C\x05\x00\x00\x00\x04\x00\x00\x00\x18\x00\x00\x00\x00\
    \x42\x00\x79\x01\x00\x00\x00\x30\
    \x42\x00\x74\x05\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x00\
    \x42\x00\x74\x05\x00\x00\x00\x04\x00\x00\x00\x02\x00\x00\x00\x00\
    \x42\x00\x74\x05\x00\x00\x00\x04\x00\x00\x00\x03\x00\x00\x00\x00";

const ANSWER: &[u8] = b"\
    \x42\x00\x7B\x01\x00\x00\x01\x08\
    \x42\x00\x7A\x01\x00\x00\x00\x48\
    \x42\x00\x69\x01\x00\x00\x00\x20\
    \x42\x00\x6A\x02\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x00\
    \x42\x00\x6B\x02\x00\x00\x00\x04\x00\x00\x00\x04\x00\x00\x00\x00\
    \x42\x00\x92\x09\x00\x00\x00\x08\x00\x00\x00\x00\x65\x53\xF1\x00\
    \x42\x00\x0D\x02\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x00\
    \x42\x00\x0F\x01\x00\x00\x00\xB0\
    \x42\x00\x5C\x05\x00\x00\x00\x04\x00\x00\x00\x18\x00\x00\x00\x00\
    \x42\x00\x7F\x05\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\
    \x42\x00\x7C\x01\x00\x00\x00\x88\
    \x42\x00\x5C\x05\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x00\
    \x42\x00\x5C\x05\x00\x00\x00\x04\x00\x00\x00\x0A\x00\x00\x00\x00\
    \x42\x00\x5C\x05\x00\x00\x00\x04\x00\x00\x00\x18\x00\x00\x00\x00\
    \x42\x00\x57\x05\x00\x00\x00\x04\x00\x00\x00\x02\x00\x00\x00\x00\
    \x42\x00\x57\x05\x00\x00\x00\x04\x00\x00\x00\x07\x00\x00\x00\x00\
    \x42\x00\x9D\x07\x00\x00\x00\x11a server of bytes\x00\x00\x00\x00\x00\x00\x00\
    \x42\x00\x88\x01\x00\x00\x00\x10\
    \x54\xAB\x01\x07\x00\x00\x00\x06rack 7\x00\x00";
