//! Servers that a pull meets: awkward ones, and the one that pulls.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_store::plan::Query;
use keyferry_store::{ObjectId, SnapshotExt, StoreExt};
use keyferry_ttlv::Version;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A server that does as it likes.
#[derive(Default)]
pub struct Awkward {
    /// Identifiers in an answer to Locate at the most.
    pub cap: Option<usize>,
    pub ignores_offset: bool,
    /// Tells in another order each time.
    pub shuffles: bool,
    /// Finds everything, whatever is asked.
    pub finds_all: bool,
    pub forbidden: BTreeSet<String>,
    pub locates: AtomicUsize,
}

impl Responder for Awkward {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Answered, Failure>> {
        let forbidden = |id: &Option<UniqueIdentifier>| {
            let id = id.as_ref().and_then(UniqueIdentifier::as_text)?;
            self.forbidden
                .contains(id)
                .then(|| Err(Failure::new(Cause::PermissionDenied, "not yours")))
        };
        match item.operation {
            Operation::GET => {
                return forbidden(
                    &item
                        .payload::<GetRequest>(ask.cx)
                        .unwrap()
                        .unique_identifier,
                );
            }
            Operation::EXPORT => {
                return forbidden(
                    &item
                        .payload::<ExportRequest>(ask.cx)
                        .unwrap()
                        .unique_identifier,
                );
            }
            Operation::LOCATE => {}
            _ => return None,
        }
        let locates = self.locates.fetch_add(1, Ordering::SeqCst);
        let request: LocateRequest = item.payload(ask.cx).unwrap();
        let nothing = Attributes::new();
        let attributes = if self.finds_all {
            &nothing
        } else {
            &request.attributes
        };
        let query = Query::new(attributes, request.storage_status_mask, true).unwrap();
        let all = query
            .locate(ask.snapshot, ask.now.wall, (0, usize::MAX), &|_| Ok(true))
            .unwrap()
            .identifiers;
        let mut all: Vec<String> = all.iter().map(ToString::to_string).collect();
        if self.shuffles {
            let by = (locates * 7 + 3) % all.len().max(1);
            all.rotate_left(by);
        }
        let offset = if self.ignores_offset {
            0
        } else {
            request.offset_items.unwrap_or(0) as usize
        };
        let most = request
            .maximum_items
            .map_or(usize::MAX, |n| n as usize)
            .min(self.cap.unwrap_or(usize::MAX));
        let mut response = LocateResponse::default();
        all.iter()
            .skip(offset)
            .take(most)
            .for_each(|id| response.unique_identifiers.push(id));
        Some(Answered::answer(&response, ask.cx))
    }
}

pub fn awkward(how: Awkward) -> Host {
    let mut host = Host::named("f", Access::Authenticated, Policy::closed());
    host.server = Arc::new(Arc::into_inner(host.server).unwrap().with(Arc::new(how)));
    host
}

/// The server that pulls.
pub fn puller() -> Host {
    Host::named(
        "p",
        Access::Named(["client".to_owned()].into()),
        Policy::closed(),
    )
}

pub fn options_for(strategy: PullStrategy) -> PullOptions {
    PullOptions {
        batch: 7,
        in_flight: 2,
        ..PullOptions::new("f", Peer::new("f"), strategy)
    }
}

pub fn pull(p: &Host, f: &Host, options: PullOptions) -> Report {
    let mut session = Pull::new(p.server.node().clone(), options);
    let report = drive(p, f, &mut session, "client", Cut::Never, &mut |_, _| {})
        .unwrap()
        .unwrap();
    assert!(report.counts.finished && report.counts.add_up(), "{report}");
    report
}

pub fn here(p: &Host, server: &str, id: &str) -> keyferry_store::Record {
    let id = ObjectId {
        server: server.into(),
        instance: Vec::new(),
        identifier: id.into(),
    };
    p.store
        .view::<_, keyferry_store::Error>(|s| Ok(s.by_object_id(&id)?.unwrap().1))
        .unwrap()
}

pub fn many(host: &Host, count: usize) -> Vec<String> {
    let client = host.client(Version::V2_1);
    let make = |n: usize| {
        host.pass(n as i64 % 3);
        let object = if n.is_multiple_of(3) {
            key(&[n as u8; 16])
        } else {
            Object::secret_data(SecretDataType::SEED, Secret::new(&[n as u8; 16]))
        };
        client.register(object, named(&format!("n{n}")))
    };
    (0..count).map(make).collect()
}
