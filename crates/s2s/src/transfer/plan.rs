//! Saved plans: a plan says what a dry run found out of each object, and a later run does just that or stops.
//!
//! A plan has a header, a record for each object in the order of the transfer, and an end with their number and a seal by a key of the store that
//! made it. Neither writing nor executing a plan takes memory that grows with it.

use crate::error::{Error, ErrorKind, Result};
use crate::report::Outcome;
use crate::session::SessionContext;
use crate::wire::copy::{Held, Short};
use keyferry_kmip::{Object, Text, extension as x};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{ObjectId, Record, SnapshotExt, StoreExt};
use keyferry_ttlv::{Decode, Encode, Extra};
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::fmt;
use std::io::{Read, Seek, SeekFrom, Write};
use zeroize::Zeroizing;

/// The header of a plan: what it is for. A session with other options does not execute it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::PLAN)]
pub(crate) struct Header {
    #[ttlv(tag = x::FORMAT_VERSION)]
    pub(crate) format: i32,
    /// The server whose store made it.
    #[ttlv(tag = x::SERVER_ID)]
    pub(crate) server: Text,
    #[ttlv(tag = x::INSTANCE)]
    pub(crate) instance: Vec<u8>,
    #[ttlv(tag = x::INCARNATION)]
    pub(crate) incarnation: Vec<u8>,
    /// The transfer's name.
    #[ttlv(tag = x::PLAN_NAME)]
    pub(crate) name: Text,
    #[ttlv(tag = x::PLAN_STRATEGY)]
    pub(crate) strategy: Text,
    #[ttlv(tag = x::PLAN_VERSION)]
    pub(crate) version: Text,
    #[ttlv(tag = x::SELECTION)]
    pub(crate) selection: Option<Vec<u8>>,
    /// The incarnation of the peer's store, where it told it.
    #[ttlv(tag = x::PEER_INCARNATION)]
    pub(crate) peer: Option<Vec<u8>>,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Header {
    /// Fails unless the plan is for what the header `wanted` says.
    fn check(&self, wanted: &Header) -> Result<()> {
        if self.format != FORMAT {
            return Err(plan_error(format_args!(
                "the plan is of format {}, which is not known here",
                self.format
            )));
        }
        let other = |what: &str, planned: &dyn fmt::Display, here: &dyn fmt::Display| {
            Err(plan_error(format_args!(
                "the plan is for another {what}: {planned}, and this is {here}"
            )))
        };
        if (&self.server, &self.instance) != (&wanted.server, &wanted.instance) {
            return other("server", &self.server, &wanted.server);
        }
        if self.incarnation != wanted.incarnation {
            return Err(plan_error(
                "the plan was made before this store was restored",
            ));
        }
        for (what, planned, here) in [
            ("transfer", &self.name, &wanted.name),
            ("strategy", &self.strategy, &wanted.strategy),
            ("version", &self.version, &wanted.version),
        ] {
            if planned != here {
                return other(what, planned, here);
            }
        }
        if self.selection != wanted.selection {
            return Err(plan_error("the plan is for another selection"));
        }
        Ok(())
    }
}

/// A record of a plan: what is planned for one object.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::PLANNED)]
pub(crate) struct Planned {
    pub(crate) id: ObjectId,
    /// Its Unique Identifier at the source.
    #[ttlv(tag = x::LOCAL_IDENTIFIER)]
    pub(crate) identifier: Text,
    /// The digest of the object at the source; `None` where that could not be seen.
    #[ttlv(tag = x::DIGEST_VALUE)]
    pub(crate) digest: Option<Vec<u8>>,
    /// What the target held; `None` where nobody looked.
    pub(crate) held: Option<Held>,
    #[ttlv(tag = x::OUTCOME)]
    pub(crate) outcome: Outcome,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// What this store has of a planned object.
pub(crate) enum PlannedSource {
    /// The object is what it was when it was planned.
    AsPlanned(Box<(Record, Option<Object>)>),
    /// The object is another one, or is gone; both sides in words.
    Changed { planned: String, found: String },
}

impl Planned {
    /// Looks the object up in this store, and compares it with the plan.
    pub(crate) fn find_source(&self, cx: &SessionContext<'_>) -> Result<PlannedSource> {
        let held =
            cx.store
                .view::<_, Error>(|snapshot| match snapshot.by_object_id(&self.id)? {
                    Some((number, _)) => Ok(snapshot.whole(number)?),
                    None => Ok(None),
                })?;
        let digest = held
            .as_ref()
            .map(|(record, _)| record.copy_digest())
            .transpose()?;
        let words = |digest: Option<&Vec<u8>>| match digest {
            Some(digest) => format!("one here with the digest {}", Short(digest)),
            None => "none here".to_owned(),
        };
        Ok(match held.filter(|_| digest == self.digest) {
            Some(source) => PlannedSource::AsPlanned(Box::new(source)),
            None => PlannedSource::Changed {
                planned: words(self.digest.as_ref()),
                found: words(digest.as_ref()),
            },
        })
    }
}

/// The last record of a plan.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::PLAN_END)]
struct End {
    #[ttlv(tag = x::OBJECT_COUNT)]
    count: i64,
    #[ttlv(tag = x::RUNNING_HASH)]
    seal: Vec<u8>,
    #[ttlv(extra)]
    extra: Extra,
}

/// The number of the format that is written and read here.
const FORMAT: i32 = 1;

/// The largest number of bytes that a record may have.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// The number of bytes of a record before its content: tag, type and length.
const RECORD_HEADER_BYTES: usize = 8;

/// The running hash over a plan's records, which begins with a secret of the store. Only its value behind the end is ever written: nobody else can
/// make a plan, or add to one.
#[derive(Clone)]
struct Chain(Zeroizing<[u8; 32]>);

/// The store that makes or executes plans.
struct Origin {
    /// The hash that its plans begin with.
    chain: Chain,
    server: Text,
    instance: Vec<u8>,
    incarnation: Vec<u8>,
}

impl Origin {
    fn read(cx: &SessionContext<'_>) -> Result<Origin> {
        let (home, head) = cx
            .store
            .view::<_, Error>(|snapshot| Ok((snapshot.home()?, snapshot.head()?)))?;
        let home =
            home.ok_or_else(|| plan_error("the store is no server's yet: it makes no plans"))?;
        let mut chain = Chain(Zeroizing::new([0; 32]));
        chain.add(home.fingerprint_key.expose());
        chain.add(b"keyferry plan");
        Ok(Origin {
            chain,
            server: home.server,
            instance: home.instance,
            incarnation: head.incarnation.0.to_vec(),
        })
    }
}

impl Chain {
    fn add(&mut self, bytes: &[u8]) {
        let hash = Sha256::new()
            .chain_update(&self.0[..])
            .chain_update(bytes)
            .finalize();
        self.0.copy_from_slice(&hash);
    }

    fn seal(mut self, count: i64) -> Vec<u8> {
        self.add(b"end");
        self.add(&count.to_be_bytes());
        self.0.to_vec()
    }
}

fn plan_error(why: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Plan, why)
}

/// What a plan is made for: the options of the session that writes or executes it.
#[derive(Debug)]
pub(crate) struct Purpose<'a> {
    pub(crate) name: &'a str,
    pub(crate) strategy: &'a str,
    pub(crate) version: keyferry_ttlv::Version,
    pub(crate) selection: Option<Vec<u8>>,
}

impl Purpose<'_> {
    fn header(&self, origin: Origin, peer: Option<Vec<u8>>) -> Header {
        Header {
            format: FORMAT,
            server: origin.server,
            instance: origin.instance,
            incarnation: origin.incarnation,
            name: self.name.into(),
            strategy: self.strategy.into(),
            version: self.version.to_string().into(),
            selection: self.selection.clone(),
            peer,
            extra: Extra::NONE,
        }
    }
}

/// The writer of a plan, during a dry run.
pub(crate) struct PlanWriter {
    sink: Box<dyn Write + Send>,
    chain: Option<Chain>,
    count: i64,
}

impl PlanWriter {
    pub(crate) fn new(sink: Box<dyn Write + Send>) -> PlanWriter {
        PlanWriter {
            sink,
            chain: None,
            count: 0,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.sink.write_all(bytes).map_err(unwritable)
    }

    fn write_record<T: Encode + keyferry_ttlv::Tagged>(&mut self, record: &T) -> Result<()> {
        let bytes = bytes_of(record)?;
        if let Some(chain) = &mut self.chain {
            chain.add(&bytes);
        }
        self.write(&bytes)
    }

    /// Writes the header, at the first call.
    pub(crate) fn begin(
        &mut self,
        cx: &SessionContext<'_>,
        purpose: &Purpose<'_>,
        peer: Option<Vec<u8>>,
    ) -> Result<()> {
        if self.chain.is_some() {
            return Ok(());
        }
        let origin = Origin::read(cx)?;
        self.chain = Some(origin.chain.clone());
        self.write_record(&purpose.header(origin, peer))
    }

    /// Writes what is planned for the next object.
    pub(crate) fn add(&mut self, planned: &Planned) -> Result<()> {
        self.count += 1;
        self.write_record(planned)
    }

    /// Writes the end: a plan without it is not executed.
    pub(crate) fn end(&mut self) -> Result<()> {
        let seal = self
            .chain
            .take()
            .map(|chain| chain.seal(self.count))
            .unwrap_or_default();
        let end = bytes_of(&End {
            count: self.count,
            seal,
            extra: Extra::NONE,
        })?;
        self.write(&end)?;
        self.sink.flush().map_err(unwritable)
    }
}

/// The file, or something like it, that a plan is read from.
pub(crate) trait PlanFile: Read + Seek + Send {}

impl<T: Read + Seek + Send> PlanFile for T {}

/// A plan that is being executed.
pub(crate) struct PlanExecution {
    file: Box<dyn PlanFile>,
    /// The objects that were read and are not done yet.
    ahead: VecDeque<Planned>,
    header: Option<Header>,
    /// The seal, which tells this plan from others.
    pub(crate) seal: Vec<u8>,
    count: i64,
    /// The number of objects read so far.
    objects_read: i64,
}

impl PlanExecution {
    pub(crate) fn new(file: Box<dyn PlanFile>) -> PlanExecution {
        PlanExecution {
            file,
            ahead: VecDeque::new(),
            header: None,
            seal: Vec::new(),
            count: 0,
            objects_read: 0,
        }
    }

    /// The number of objects that it has.
    pub(crate) fn count(&self) -> i64 {
        self.count
    }

    /// Reads the next record; `None` at the end of the file.
    fn read_record(&mut self) -> Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; RECORD_HEADER_BYTES];
        let mut had = 0;
        while had < bytes.len() {
            match self.file.read(bytes.get_mut(had..).unwrap_or_default()) {
                Ok(0) if had == 0 => return Ok(None),
                Ok(0) => return Err(truncated()),
                Ok(read) => had += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(unreadable(e)),
            }
        }
        let length = bytes
            .last_chunk::<4>()
            .map_or(0, |length| u32::from_be_bytes(*length) as usize);
        if length > MAX_RECORD_BYTES {
            return Err(plan_error("the plan is damaged: a record is too long"));
        }
        bytes.resize(RECORD_HEADER_BYTES + length, 0);
        let content = bytes.get_mut(RECORD_HEADER_BYTES..).unwrap_or_default();
        match self.file.read_exact(content) {
            Ok(()) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Err(truncated()),
            Err(e) => Err(unreadable(e)),
        }
    }

    /// Reads all of the plan, and fails unless it is a whole plan of this store for this purpose. The next object is the first one then.
    pub(crate) fn open(&mut self, cx: &SessionContext<'_>, purpose: &Purpose<'_>) -> Result<()> {
        self.file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        let origin = Origin::read(cx)?;
        let mut chain = origin.chain.clone();
        let first = self
            .read_record()?
            .ok_or_else(|| plan_error("the plan is empty"))?;
        let header: Header =
            read(&first, "header of a plan").map_err(|_| plan_error("this is no plan"))?;
        header.check(&purpose.header(origin, header.peer.clone()))?;
        chain.add(&first);
        let (count, seal) = self.read_to_end(chain)?;
        self.file
            .seek(SeekFrom::Start(first.len() as u64))
            .map_err(unreadable)?;
        (self.header, self.seal, self.count) = (Some(header), seal, count);
        self.objects_read = 0;
        self.ahead.clear();
        Ok(())
    }

    /// Reads the objects and the end, and checks the seal. Returns the number of objects, and the seal.
    fn read_to_end(&mut self, mut chain: Chain) -> Result<(i64, Vec<u8>)> {
        let mut count = 0;
        let end: End = loop {
            let bytes = self.read_record()?.ok_or_else(truncated)?;
            if let Ok(end) = read(&bytes, "end of a plan") {
                break end;
            }
            read::<Planned>(&bytes, "object of a plan").map_err(damaged)?;
            chain.add(&bytes);
            count += 1;
        };
        if end.count != count || end.seal != chain.seal(count) {
            return Err(plan_error(
                "the plan is damaged, or was not made here: its seal is not right",
            ));
        }
        if self.read_record()?.is_some() {
            return Err(plan_error(
                "the plan is damaged: something stands behind its end",
            ));
        }
        Ok((count, end.seal))
    }

    /// Fails when the peer's store is not the one that it was planned for.
    pub(crate) fn check_peer(&self, incarnation: Option<&Vec<u8>>) -> Result<()> {
        match self.header.as_ref().and_then(|header| header.peer.as_ref()) {
            Some(planned) if Some(planned) != incarnation => {
                Err(plan_error("the plan is for another store of the peer"))
            }
            _ => Ok(()),
        }
    }

    /// Passes over the objects that an earlier run has done.
    pub(crate) fn skip(&mut self, done: i64) -> Result<()> {
        while self.objects_read < done && self.read_record()?.is_some() {
            self.objects_read += 1;
        }
        Ok(())
    }

    /// Returns the objects that are next, at most `most`. They stay next until [`complete`](PlanExecution::complete) is called.
    pub(crate) fn upcoming(&mut self, most: usize) -> Result<Vec<Planned>> {
        while self.ahead.len() < most && self.objects_read < self.count {
            let bytes = self.read_record()?.ok_or_else(truncated)?;
            self.objects_read += 1;
            let planned = read(&bytes, "object of a plan").map_err(damaged)?;
            self.ahead.push_back(planned);
        }
        Ok(self.ahead.iter().take(most).cloned().collect())
    }

    /// Passes over the next objects, which are done.
    pub(crate) fn complete(&mut self, objects: usize) {
        self.ahead.drain(..objects.min(self.ahead.len()));
    }
}

fn unreadable(e: std::io::Error) -> Error {
    plan_error(format_args!("the plan can't be read: {e}"))
}

fn unwritable(e: std::io::Error) -> Error {
    plan_error(format_args!("the plan can't be written: {e}"))
}

fn truncated() -> Error {
    plan_error("the plan is truncated")
}

fn damaged(e: keyferry_store::Error) -> Error {
    plan_error(format_args!("the plan is damaged: {e}"))
}
