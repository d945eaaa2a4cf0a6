//! Saved plans: what a dry run found out, object by object, so that a later run does just that or stops.
//!
//! A plan is a header, a record for each object in the order of the transfer, and an end that tells their number and seals them with a key of
//! the store that made it. Memory does not grow with it on either side.

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

/// What a plan is for. A session with other options does not execute it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::PLAN)]
pub(crate) struct Header {
    #[ttlv(tag = x::FORMAT_VERSION)]
    pub(crate) format: i32,
    /// Whose store made it.
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
    /// The incarnation of the peer's store, where it told.
    #[ttlv(tag = x::PEER_INCARNATION)]
    pub(crate) peer: Option<Vec<u8>>,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// What is planned for one object.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::PLANNED)]
pub(crate) struct Planned {
    pub(crate) id: ObjectId,
    /// Its Unique Identifier at the source.
    #[ttlv(tag = x::LOCAL_IDENTIFIER)]
    pub(crate) identifier: Text,
    /// The digest of what the source had; `None` where that could not be seen.
    #[ttlv(tag = x::DIGEST_VALUE)]
    pub(crate) digest: Option<Vec<u8>>,
    /// What the target had; `None` where nobody looked.
    pub(crate) held: Option<Held>,
    #[ttlv(tag = x::OUTCOME)]
    pub(crate) outcome: Outcome,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// An object as it is at its source; or what was planned of it, and what is found instead.
pub(crate) type Sourced = std::result::Result<(Record, Option<Object>), (String, String)>;

impl Planned {
    /// The object in our store, if it is what it was when it was planned.
    pub(crate) fn source(&self, cx: &SessionContext<'_>) -> Result<Sourced> {
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
        let differ = || (words(self.digest.as_ref()), words(digest.as_ref()));
        Ok(held.filter(|_| digest == self.digest).ok_or_else(differ))
    }
}

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

const FORMAT: i32 = 1;

/// Bytes of a record at the most.
const LARGEST: usize = 1 << 20;

/// The running hash over a plan's records, begun with a secret of the store. It is told only when it has gone over the end, too: nobody
/// else can write a plan, or add to one.
#[derive(Clone)]
struct Chain(Zeroizing<[u8; 32]>);

impl Chain {
    fn new(cx: &SessionContext<'_>) -> Result<(Chain, Text, Vec<u8>, Vec<u8>)> {
        let (home, head) = cx
            .store
            .view::<_, Error>(|snapshot| Ok((snapshot.home()?, snapshot.head()?)))?;
        let home = home.ok_or_else(|| plan("the store is no server's yet: it makes no plans"))?;
        let mut chain = Chain(Zeroizing::new([0; 32]));
        chain.add(home.fingerprint_key.expose());
        chain.add(b"keyferry plan");
        Ok((
            chain,
            home.server,
            home.instance,
            head.incarnation.0.to_vec(),
        ))
    }

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

fn plan(why: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Plan, why)
}

/// What a session plans for: the options that a plan belongs to.
pub(crate) struct Purpose<'a> {
    pub(crate) name: &'a str,
    pub(crate) strategy: &'a str,
    pub(crate) version: keyferry_ttlv::Version,
    pub(crate) selection: Option<Vec<u8>>,
}

impl Purpose<'_> {
    fn header(
        &self,
        server: Text,
        instance: Vec<u8>,
        incarnation: Vec<u8>,
        peer: Option<Vec<u8>>,
    ) -> Header {
        Header {
            format: FORMAT,
            server,
            instance,
            incarnation,
            name: self.name.into(),
            strategy: self.strategy.into(),
            version: self.version.to_string().into(),
            selection: self.selection.clone(),
            peer,
            extra: Extra::NONE,
        }
    }
}

/// Writes a plan while a dry run finds it out.
pub(crate) struct Planning {
    sink: Box<dyn Write + Send>,
    chain: Option<Chain>,
    count: i64,
}

impl Planning {
    pub(crate) fn new(sink: Box<dyn Write + Send>) -> Planning {
        Planning {
            sink,
            chain: None,
            count: 0,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.sink
            .write_all(bytes)
            .map_err(|e| plan(format_args!("the plan can't be written: {e}")))
    }

    fn record<T: Encode + keyferry_ttlv::Tagged>(&mut self, record: &T) -> Result<()> {
        let bytes = bytes_of(record)?;
        if let Some(chain) = &mut self.chain {
            chain.add(&bytes);
        }
        self.write(&bytes)
    }

    /// Writes the header, once it is known.
    pub(crate) fn begin(
        &mut self,
        cx: &SessionContext<'_>,
        purpose: &Purpose<'_>,
        peer: Option<Vec<u8>>,
    ) -> Result<()> {
        if self.chain.is_some() {
            return Ok(());
        }
        let (chain, server, instance, incarnation) = Chain::new(cx)?;
        self.chain = Some(chain);
        self.record(&purpose.header(server, instance, incarnation, peer))
    }

    pub(crate) fn add(&mut self, planned: &Planned) -> Result<()> {
        self.count += 1;
        self.record(planned)
    }

    /// Writes the end, without which it is no plan.
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
        self.sink
            .flush()
            .map_err(|e| plan(format_args!("the plan can't be written: {e}")))
    }
}

/// What a plan is read from.
pub(crate) trait Source: Read + Seek + Send {}

impl<T: Read + Seek + Send> Source for T {}

/// A plan while it is executed.
pub(crate) struct Executing {
    source: Box<dyn Source>,
    /// Read, and not done yet.
    ahead: VecDeque<Planned>,
    header: Option<Header>,
    /// Tells this plan from others.
    pub(crate) seal: Vec<u8>,
    count: i64,
    /// Records read so far.
    read: i64,
}

impl Executing {
    pub(crate) fn new(source: Box<dyn Source>) -> Executing {
        Executing {
            source,
            ahead: VecDeque::new(),
            header: None,
            seal: Vec::new(),
            count: 0,
            read: 0,
        }
    }

    /// How many objects it has.
    pub(crate) fn count(&self) -> i64 {
        self.count
    }

    fn record(&mut self) -> Result<Option<Vec<u8>>> {
        let unreadable = |e: std::io::Error| plan(format_args!("the plan can't be read: {e}"));
        let mut bytes = vec![0; 8];
        let mut had = 0;
        while had < bytes.len() {
            match self.source.read(bytes.get_mut(had..).unwrap_or_default()) {
                Ok(0) if had == 0 => return Ok(None),
                Ok(0) => return Err(plan("the plan is truncated")),
                Ok(read) => had += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(unreadable(e)),
            }
        }
        let length = bytes
            .last_chunk::<4>()
            .map_or(0, |length| u32::from_be_bytes(*length) as usize);
        if length > LARGEST {
            return Err(plan("the plan is damaged: a record is too long"));
        }
        bytes.resize(8 + length, 0);
        let read = self
            .source
            .read_exact(bytes.get_mut(8..).unwrap_or_default());
        read.map_err(|e| {
            if e.kind() == std::io::ErrorKind::UnexpectedEof {
                plan("the plan is truncated")
            } else {
                unreadable(e)
            }
        })?;
        Ok(Some(bytes))
    }

    /// Reads all of it, and fails unless it is a whole plan of this store for this purpose. Then it stands at the first object.
    pub(crate) fn open(&mut self, cx: &SessionContext<'_>, purpose: &Purpose<'_>) -> Result<()> {
        let rewind = |e| plan(format_args!("the plan can't be read: {e}"));
        self.source.seek(SeekFrom::Start(0)).map_err(rewind)?;
        let damaged = |e: keyferry_store::Error| plan(format_args!("the plan is damaged: {e}"));
        let (mut chain, server, instance, incarnation) = Chain::new(cx)?;
        let first = self.record()?.ok_or_else(|| plan("the plan is empty"))?;
        let header: Header =
            read(&first, "header of a plan").map_err(|_| plan("this is no plan"))?;
        if header.format != FORMAT {
            return Err(plan(format_args!(
                "the plan is of format {}, which is not known here",
                header.format
            )));
        }
        let wanted = purpose.header(server, instance, incarnation, header.peer.clone());
        let other = |what: &str, planned: &dyn fmt::Display, here: &dyn fmt::Display| {
            Err(plan(format_args!(
                "the plan is for another {what}: {planned}, and this is {here}"
            )))
        };
        if (&header.server, &header.instance) != (&wanted.server, &wanted.instance) {
            return other("server", &header.server, &wanted.server);
        }
        if header.incarnation != wanted.incarnation {
            return Err(plan("the plan was made before this store was restored"));
        }
        for (what, planned, here) in [
            ("transfer", &header.name, &wanted.name),
            ("strategy", &header.strategy, &wanted.strategy),
            ("version", &header.version, &wanted.version),
        ] {
            if planned != here {
                return other(what, planned, here);
            }
        }
        if header.selection != wanted.selection {
            return Err(plan("the plan is for another selection"));
        }
        chain.add(&first);
        let mut count = 0;
        let end: End = loop {
            let bytes = self
                .record()?
                .ok_or_else(|| plan("the plan is truncated"))?;
            if let Ok(end) = read(&bytes, "end of a plan") {
                break end;
            }
            read::<Planned>(&bytes, "object of a plan").map_err(damaged)?;
            chain.add(&bytes);
            count += 1;
        };
        if end.count != count || end.seal != chain.seal(count) {
            return Err(plan(
                "the plan is damaged, or was not made here: its seal is not right",
            ));
        }
        if self.record()?.is_some() {
            return Err(plan("the plan is damaged: something stands behind its end"));
        }
        self.source
            .seek(SeekFrom::Start(first.len() as u64))
            .map_err(rewind)?;
        (self.header, self.seal, self.count, self.read) = (Some(header), end.seal, count, 0);
        self.ahead.clear();
        Ok(())
    }

    /// Fails when the peer's store is not the one that it was planned for.
    pub(crate) fn check_peer(&self, incarnation: Option<&Vec<u8>>) -> Result<()> {
        match self.header.as_ref().and_then(|header| header.peer.as_ref()) {
            Some(planned) if Some(planned) != incarnation => {
                Err(plan("the plan is for another store of the peer"))
            }
            _ => Ok(()),
        }
    }

    /// Passes over what was done before.
    pub(crate) fn skip(&mut self, done: i64) -> Result<()> {
        while self.read < done && self.record()?.is_some() {
            self.read += 1;
        }
        Ok(())
    }

    /// What is to be done next, so many objects at the most. They stay until they are done.
    pub(crate) fn next(&mut self, most: usize) -> Result<Vec<Planned>> {
        while self.ahead.len() < most && self.read < self.count {
            let bytes = self
                .record()?
                .ok_or_else(|| plan("the plan is truncated"))?;
            self.read += 1;
            let planned = read(&bytes, "object of a plan")
                .map_err(|e| plan(format_args!("the plan is damaged: {e}")))?;
            self.ahead.push_back(planned);
        }
        Ok(self.ahead.iter().take(most).cloned().collect())
    }

    /// So many of them are done.
    pub(crate) fn done(&mut self, objects: usize) {
        self.ahead.drain(..objects.min(self.ahead.len()));
    }
}
