//! An ordered map of bytes that is kept in a file: what the example `vendor_store` takes a vendor to have already.
//!
//! The file is only appended to, a batch at a time, and all of it is in memory; a real engine would not do that.

use keyferry_store::{CommitId, Error, ErrorKind, MaterialChange, Put, Result};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Keys and values.
pub type Map = BTreeMap<Vec<u8>, Vec<u8>>;
/// What a batch changes: a value, or its absence.
pub type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The map and its file.
pub struct Engine {
    map: Map,
    file: File,
    length: u64,
    /// An append failed and could not be taken back.
    broken: bool,
}

fn io(error: std::io::Error) -> Error {
    let kind = if error.kind() == std::io::ErrorKind::StorageFull {
        ErrorKind::Full
    } else {
        ErrorKind::Io
    };
    Error::new(kind, error)
}

/// What is stored makes no sense.
pub fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}

/// The check of a batch: the first bytes of a SHA-256, by way of the commit chain.
fn check(batch: &[u8]) -> [u8; 16] {
    let put = Put {
        number: None,
        id: batch,
        attributes: &[],
        material: MaterialChange::Keep,
        remove: &[],
        insert: &[],
        entry: &[],
    };
    CommitId::ZERO.next([&put]).0
}

impl Engine {
    /// Reads the batches of the file. One that a crash cut short stands at the end, was never acknowledged, and goes.
    ///
    /// # Errors
    /// Those of the file.
    pub fn open(path: &Path) -> Result<Engine> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(io)?;
        let (mut map, mut rest) = (Map::new(), content.as_slice());
        while let Some((batch, behind)) = batch(rest) {
            let mut changes = batch;
            while !changes.is_empty() {
                let (key, value) =
                    change(&mut changes).ok_or_else(|| corrupt("a batch that makes no sense"))?;
                match value {
                    Some(value) => _ = map.insert(key.to_vec(), value.to_vec()),
                    None => _ = map.remove(key),
                }
            }
            rest = behind;
        }
        let length = (content.len() - rest.len()) as u64;
        file.set_len(length).map_err(io)?;
        file.seek(SeekFrom::Start(length)).map_err(io)?;
        Ok(Engine {
            map,
            file,
            length,
            broken: false,
        })
    }

    /// All entries.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Makes the changes durable, then visible.
    ///
    /// # Errors
    /// Those of the file; nothing is changed then.
    pub fn commit(&mut self, changes: Changes) -> Result<()> {
        if self.broken {
            return Err(Error::new(
                ErrorKind::Io,
                "an earlier write failed half way",
            ));
        }
        let mut batch = Vec::new();
        for (key, value) in &changes {
            batch.extend((key.len() as u32).to_be_bytes());
            batch.extend(key);
            batch.extend(
                value
                    .as_ref()
                    .map_or(u32::MAX, |value| value.len() as u32)
                    .to_be_bytes(),
            );
            batch.extend(value.iter().flatten());
        }
        let frame = [
            &(batch.len() as u64).to_be_bytes()[..],
            &check(&batch),
            &batch,
        ]
        .concat();
        if let Err(error) = self
            .file
            .write_all(&frame)
            .and_then(|()| self.file.sync_data())
        {
            // What was not acknowledged must not turn up later.
            let undone = self
                .file
                .set_len(self.length)
                .and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            self.broken = undone.is_err() || self.file.sync_data().is_err();
            return Err(io(error));
        }
        self.length += frame.len() as u64;
        for (key, value) in changes {
            match value {
                Some(value) => _ = self.map.insert(key, value),
                None => _ = self.map.remove(&key),
            }
        }
        Ok(())
    }
}

/// Cuts the first batch off, if all of it is there.
fn batch(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk::<16>()?;
    let (batch, rest) =
        rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
    (check(batch) == *sum).then_some((batch, rest))
}

/// Cuts one change off a batch.
fn change<'a>(batch: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let (length, rest) = batch.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = u32::from_be_bytes(*length);
    let (value, rest) = if length == u32::MAX {
        (None, rest)
    } else {
        rest.split_at_checked(length as usize)
            .map(|(v, r)| (Some(v), r))?
    };
    *batch = rest;
    Some((key, value))
}
