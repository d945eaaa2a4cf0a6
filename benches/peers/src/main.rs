//! What reading and writing cost in keyferry and in other crates, on the same bytes, as ratios to a plain walk over all headers:
//! `cargo run --release` in this folder.
//!
//! What a peer refuses, or has no code for, is a dash, and its own words stand behind the table; so does where a peer writes other bytes
//! than it was given. (b') and (d') are (b) and (d) without what kmip-protocol, a client for KMIP 1.0 to 1.2, can't read. cosmian_kmip
//! has types for 1.4 and 2.1. keyferry's times include wiping what held secrets; cosmian_kmip wipes the key itself, kmip-protocol nothing.

use cosmian_kmip::kmip_0::kmip_messages as cosmian;
use cosmian_kmip::ttlv::{KmipFlavor, TTLV, TtlvError, from_ttlv, to_ttlv};
use keyferry_benches::{self as messages, VERSION, walk};
use keyferry_kmip::{
    Attributes, DateTime, GetAttributesResponse, LocateResponse, Payload, RequestItem,
    RequestMessage, ResponseItem, ResponseMessage,
};
use kmip_protocol::types::{common, request, response};
use std::hint::black_box;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// One way of one crate, ready to be measured, or why there is none.
type Way = Result<Box<dyn Fn()>, String>;

/// What a crate does with a message.
struct Codec {
    name: &'static str,
    decode: Way,
    encode: Way,
    note: Option<String>,
}

/// One message, and all that can read or write it.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    codecs: Vec<Codec>,
}

/// Tries it once, so that the measured runs succeed.
fn way<T, E: std::fmt::Display>(run: impl Fn() -> Result<T, E> + 'static) -> Way {
    match run() {
        Ok(_) => Ok(Box::new(move || drop(black_box(run())))),
        Err(error) => Err(error.to_string()),
    }
}

/// Says where a peer's bytes are others than ours: at which value, whatever the lengths around it.
fn difference(ours: &[u8], theirs: &[u8]) -> Option<String> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    values(ours, &mut left);
    values(theirs, &mut right);
    let at = left
        .iter()
        .zip(&right)
        .position(|(a, b)| a != b)
        .unwrap_or(left.len().min(right.len()));
    let tag = |list: &[&[u8]]| match list.get(at) {
        Some([a, b, c, ..]) => format!("{a:02X}{b:02X}{c:02X}"),
        _ => "the end".to_owned(),
    };
    (ours != theirs).then(|| {
        format!(
            "{} bytes instead of {}: at value {at} {} instead of {}",
            theirs.len(),
            ours.len(),
            tag(&right),
            tag(&left)
        )
    })
}

/// All items that are no structures.
fn values<'a>(mut rest: &'a [u8], list: &mut Vec<&'a [u8]>) {
    while let Some((&[_, _, _, ty, l0, l1, l2, l3], behind)) = rest.split_first_chunk::<8>() {
        let size = (u32::from_be_bytes([l0, l1, l2, l3]) as usize)
            .next_multiple_of(8)
            .min(behind.len());
        let (item, next) = rest.split_at(8 + size);
        if ty == 1 {
            values(&behind[..size], list)
        } else {
            list.push(item)
        }
        rest = next;
    }
}

fn cosmian<T>(bytes: &[u8]) -> Codec
where
    T: serde::Serialize + serde::de::DeserializeOwned + 'static,
{
    fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, TtlvError> {
        from_ttlv(TTLV::from_bytes(black_box(bytes), KmipFlavor::Kmip1)?)
    }
    fn write<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, TtlvError> {
        to_ttlv(black_box(value))?.to_bytes(KmipFlavor::Kmip1)
    }
    let name = "cosmian_kmip";
    let value = match read::<T>(bytes) {
        Ok(value) => value,
        Err(error) => {
            return Codec {
                name,
                decode: Err(error.to_string()),
                encode: Err("nothing decoded".into()),
                note: None,
            };
        }
    };
    let note = write(&value)
        .ok()
        .and_then(|theirs| difference(bytes, &theirs));
    let copy = bytes.to_vec();
    Codec {
        name,
        decode: way(move || read::<T>(&copy)),
        encode: way(move || write(&value)),
        note,
    }
}

const KMIP_PROTOCOL: &str = "kmip-protocol";

fn kmip_protocol_response(bytes: &[u8]) -> Result<Codec> {
    let copy = bytes.to_vec();
    Ok(Codec {
        name: KMIP_PROTOCOL,
        decode: if outlives(bytes)? {
            way(move || {
                kmip_protocol::response::from_slice::<response::ResponseMessage>(black_box(&copy))
            })
        } else {
            Err("overflows the stack".into())
        },
        encode: Err("does not write responses".into()),
        note: None,
    })
}

/// Whether kmip-protocol ends when it is given this: some attributes that it has no code for make it call itself for ever. A child of
/// this program finds out.
fn outlives(bytes: &[u8]) -> Result<bool> {
    let program = std::env::current_exe()?;
    let mut child = Command::new(program)
        .arg(TRY)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(bytes)?;
    }
    Ok(child.wait()?.code().is_some())
}

const TRY: &str = "--try";

fn try_message() -> Result<()> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    kmip_protocol::response::from_slice::<response::ResponseMessage>(&bytes)
        .map_err(|error| error.to_string())?;
    Ok(())
}

fn kmip_protocol_request(bytes: &[u8], payloads: Vec<request::RequestPayload>) -> Codec {
    let version = request::ProtocolVersion(
        request::ProtocolVersionMajor(VERSION.major.into()),
        request::ProtocolVersionMinor(VERSION.minor.into()),
    );
    let count = i32::try_from(payloads.len()).unwrap_or(i32::MAX);
    let id = |n: u32| (count > 1).then(|| common::UniqueBatchItemID(n.to_be_bytes().to_vec()));
    let items = (0..)
        .zip(payloads)
        .map(|(n, payload)| request::BatchItem(payload.operation(), id(n), payload))
        .collect();
    let message = request::RequestMessage(
        request::RequestHeader(version, None, None, request::BatchCount(count)),
        items,
    );
    let note = kmip_ttlv::ser::to_vec(&message)
        .ok()
        .and_then(|theirs| difference(bytes, &theirs));
    Codec {
        name: KMIP_PROTOCOL,
        decode: Err("does not read requests".into()),
        encode: way(move || kmip_ttlv::ser::to_vec(black_box(&message))),
        note,
    }
}

/// The attributes of `four` and `eight` in keyferry-benches, in kmip-protocol's types.
fn template(n: u64, many: bool) -> request::TemplateAttribute {
    use common::CryptographicUsageMask as Mask;
    use request::Attribute;
    let mut attributes = vec![
        Attribute::CryptographicAlgorithm(common::CryptographicAlgorithm::AES),
        Attribute::CryptographicLength(256),
        Attribute(
            common::AttributeName("Cryptographic Usage Mask".into()),
            None,
            common::AttributeValue::Integer(Mask::Encrypt as i32 | Mask::Decrypt as i32),
        ),
        Attribute::Name(format!("bench key {n}")),
    ];
    if many {
        attributes.push(Attribute::ObjectGroup("bench".into()));
        attributes.push(Attribute::ContactInformation("keys@example.com".into()));
        attributes.push(Attribute::ActivationDate(1_700_000_000 + n));
        attributes.push(Attribute(
            common::AttributeName("x-ID".into()),
            None,
            common::AttributeValue::TextString(format!("asset-{n}")),
        ));
    }
    request::TemplateAttribute::unnamed(attributes)
}

fn register(n: u64) -> request::RequestPayload {
    let key = request::KeyBlock(
        common::KeyFormatType::Raw,
        None,
        Some(request::KeyValue(
            common::KeyMaterial::Bytes(vec![7; 32]),
            None,
        )),
        Some(common::CryptographicAlgorithm::AES),
        Some(common::CryptographicLength(256)),
        None,
    );
    request::RequestPayload::Register(
        common::ObjectType::SymmetricKey,
        template(n, true),
        Some(request::ManagedObject::SymmetricKey(request::SymmetricKey(
            key,
        ))),
    )
}

/// What kmip-protocol can read of (d).
fn readable() -> Result<GetAttributesResponse> {
    let mut response = messages::attributes();
    let mut kept = Attributes::new();
    for attribute in &response.attributes {
        let alone = GetAttributesResponse {
            attributes: Attributes::new().with(attribute.value.clone()),
            ..messages::attributes()
        };
        let frame = answer(alone).to_frame()?;
        if outlives(&frame)?
            && kmip_protocol::response::from_slice::<response::ResponseMessage>(&frame).is_ok()
        {
            kept.keep(attribute.clone());
        }
    }
    response.attributes = kept;
    Ok(response)
}

fn answer<P: Payload>(payload: P) -> ResponseMessage<P> {
    ResponseMessage::new(
        VERSION,
        DateTime(1_700_000_000),
        vec![ResponseItem::of(P::OPERATION, payload)],
    )
}

fn request<P>(
    name: &'static str,
    payloads: Vec<P>,
    peers: Vec<request::RequestPayload>,
) -> Result<Case>
where
    P: Payload + Clone + 'static,
{
    let message = RequestMessage::new(
        VERSION,
        payloads
            .into_iter()
            .map(|p| RequestItem::of(P::OPERATION, p))
            .collect(),
    );
    let frame = message.to_frame()?;
    let bytes = frame.to_vec();
    let keyferry = Codec {
        name: "keyferry",
        decode: way(move || RequestMessage::<P>::typed(black_box(&frame))),
        encode: way(move || black_box(&message).to_frame()),
        note: None,
    };
    let codecs = vec![
        keyferry,
        kmip_protocol_request(&bytes, peers),
        cosmian::<cosmian::RequestMessage>(&bytes),
    ];
    Ok(Case {
        name,
        bytes,
        codecs,
    })
}

fn response<P: Payload + Clone + 'static>(name: &'static str, payload: P) -> Result<Case> {
    let message = answer(payload);
    let frame = message.to_frame()?;
    let bytes = frame.to_vec();
    let keyferry = Codec {
        name: "keyferry",
        decode: way(move || ResponseMessage::<P>::typed(black_box(&frame))),
        encode: way(move || black_box(&message).to_frame()),
        note: None,
    };
    let codecs = vec![
        keyferry,
        kmip_protocol_response(&bytes)?,
        cosmian::<cosmian::ResponseMessage>(&bytes),
    ];
    Ok(Case {
        name,
        bytes,
        codecs,
    })
}

/// One thing to measure, and the nanoseconds of one run in each sample.
struct Meter<'a> {
    run: &'a dyn Fn(),
    rounds: u32,
    samples: Vec<f64>,
}

impl<'a> Meter<'a> {
    /// Each sample takes about a quarter of a millisecond, or one run.
    fn new(run: &'a dyn Fn()) -> Self {
        let (start, mut runs) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(5) {
            run();
            runs += 1;
        }
        Meter {
            run,
            rounds: (runs / 20).max(1),
            samples: Vec::new(),
        }
    }

    fn of(way: &'a Way) -> Option<Self> {
        way.as_ref().ok().map(|run| Meter::new(run.as_ref()))
    }

    fn sample(&mut self) {
        let start = Instant::now();
        for _ in 0..self.rounds {
            (self.run)();
        }
        self.samples
            .push(start.elapsed().as_nanos() as f64 / f64::from(self.rounds));
    }

    fn median(&mut self) -> f64 {
        self.samples.sort_by(f64::total_cmp);
        self.samples
            .get(self.samples.len() / 2)
            .copied()
            .unwrap_or(f64::NAN)
    }
}

const SAMPLES: usize = 401;

fn main() -> Result<()> {
    if std::env::args().any(|argument| argument == TRY) {
        return try_message();
    }
    let cases = [
        request(
            "a  Create, 4 attributes",
            vec![messages::create()],
            vec![request::RequestPayload::Create(
                common::ObjectType::SymmetricKey,
                template(1, false),
            )],
        )?,
        response("b  Locate, 1000 found", messages::located())?,
        response(
            "b' no Located Items",
            LocateResponse {
                located_items: None,
                ..messages::located()
            },
        )?,
        response("c  Get, AES-256", messages::got())?,
        response("d  Get Attributes, 25", messages::attributes())?,
        response("d' what both can read", readable()?)?,
        request(
            "e  100 Registers",
            messages::registers(),
            (0..100).map(register).collect(),
        )?,
    ];
    println!("KMIP {VERSION}; medians of {SAMPLES} samples, all of a message's taken in turn");
    println!(
        "{:26}{:>8}{:>7}  {:14}{:>10}{:>11}{:>8}{:>11}{:>8}",
        "message", "bytes", "items", "crate", "walk ns", "decode", "x", "encode", "x"
    );
    let mut remarks = Vec::new();
    for Case {
        name,
        bytes,
        codecs,
    } in &cases
    {
        let walking = || _ = black_box(walk(black_box(bytes)));
        let mut floor = Meter::new(&walking);
        let mut meters: Vec<_> = codecs
            .iter()
            .flat_map(|codec| [Meter::of(&codec.decode), Meter::of(&codec.encode)])
            .collect();
        for _ in 0..SAMPLES {
            floor.sample();
            meters.iter_mut().flatten().for_each(Meter::sample);
        }
        let floor = floor.median();
        for (codec, pair) in codecs.iter().zip(meters.chunks_exact_mut(2)) {
            let [decode, encode] = pair else { continue };
            let cells = |meter: &mut Option<Meter<'_>>| match meter {
                Some(meter) => {
                    let median = meter.median();
                    format!("{median:>11.0}{:>8.1}", median / floor)
                }
                None => format!("{:>11}{:>8}", "-", "-"),
            };
            let (decode, encode) = (cells(decode), cells(encode));
            println!(
                "{name:26}{:>8}{:>7}  {:14}{floor:>10.0}{decode}{encode}",
                bytes.len(),
                walk(bytes),
                codec.name
            );
            let said = [
                ("decode", codec.decode.as_ref().err()),
                ("encode", codec.encode.as_ref().err()),
                ("encode", codec.note.as_ref()),
            ];
            remarks.extend(said.iter().filter_map(|(way, text)| {
                Some(format!("{name}, {}, {way}: {}", codec.name, text.as_ref()?))
            }));
        }
    }
    println!();
    remarks.iter().for_each(|remark| println!("{remark}"));
    Ok(())
}
