//! The account of a push: which records a peer was sent. It hears of their changes also when they are selected no more, or may not leave any more
//! ([rule 17](crate::design#rule-17)).

use crate::error::Result;
use crate::feed::entries;
use crate::material::transit::reason_withheld;
use crate::relation::account::Account;
use crate::selection::ChosenObjects;
use crate::session::SessionContext;
use crate::transport_key::is_transport_key;
use keyferry_kmip::Text;
use keyferry_store::{Record, RecordNumber, Snapshot, SnapshotExt, StoreExt};

/// The account of the peer, as a push of one name uses it.
pub(super) struct Pushed {
    server: Text,
    transfer: String,
    instance: Vec<u8>,
    account: Option<Account>,
    /// The feed number up to which what is sent was noted in this session.
    noted_up_to: u64,
}

impl Pushed {
    /// The account of the server of this id and instance, as it says itself. One that says nothing has its account under the name of the push.
    pub(super) fn to(transfer: &str, server: Option<Text>, instance: Option<Vec<u8>>) -> Pushed {
        Pushed {
            server: server.unwrap_or_else(|| transfer.into()),
            transfer: transfer.to_owned(),
            instance: instance.unwrap_or_default(),
            account: None,
            noted_up_to: 0,
        }
    }

    /// The account, which is read when it is needed.
    fn account(&mut self, snapshot: &dyn Snapshot) -> Result<&mut Account> {
        let account = match self.account.take() {
            Some(account) => account,
            None => {
                let way = (self.transfer.as_str(), &self.instance[..]);
                Account::by_push(snapshot, &self.server, way)?
            }
        };
        Ok(self.account.insert(account))
    }

    /// Whether the peer was sent a record in any way.
    pub(super) fn has(&mut self, snapshot: &dyn Snapshot, number: RecordNumber) -> Result<bool> {
        self.account(snapshot)?.has_anyhow(snapshot, number)
    }

    /// Whether the peer hears of an object that is not selected.
    pub(super) fn is_told(
        &mut self,
        snapshot: &dyn Snapshot,
        number: RecordNumber,
        record: &Record,
    ) -> Result<bool> {
        let account = self.account(snapshot)?;
        Ok(!record.is_withdrawn() && account.has_ended(snapshot, number, record)?)
    }

    /// Notes what is sent behind `from` up to `end`, before the peer can have it, and so many feed entries ahead of that: a transaction for each message
    /// would cost more than the messages.
    pub(super) fn note_ahead(
        &mut self,
        cx: &SessionContext<'_>,
        chosen: &ChosenObjects,
        is_wrapped: bool,
        (from, end): (u64, u64),
        ahead: usize,
    ) -> Result<()> {
        if end <= self.noted_up_to {
            return Ok(());
        }
        let (numbers, last) = cx.store.view(|snapshot| {
            let (mut numbers, mut last) = (Vec::new(), from);
            loop {
                let rows = entries(snapshot, last, ahead)?;
                if rows.is_empty() {
                    // Whatever is changed from now on stands behind the head.
                    return Ok::<_, crate::error::Error>((numbers, last));
                }
                for (place, number) in rows {
                    last = place;
                    let Some(record) = snapshot.record(number)? else {
                        continue;
                    };
                    let is_sent = chosen.has(number, &record)
                        && !record.is_withdrawn()
                        && !is_transport_key(&record)
                        && reason_withheld(&record, is_wrapped).is_none();
                    if is_sent {
                        numbers.push(number);
                    }
                }
                if last >= end {
                    return Ok((numbers, last));
                }
            }
        })?;
        self.note(cx, &numbers)?;
        self.noted_up_to = last;
        Ok(())
    }

    /// Notes the planned objects of a message.
    pub(super) fn note_planned<'r>(
        &mut self,
        cx: &SessionContext<'_>,
        records: impl Iterator<Item = &'r Record> + Clone,
    ) -> Result<()> {
        let numbers: Vec<RecordNumber> = cx.store.view(|snapshot| {
            let mut numbers = Vec::new();
            for record in records.clone() {
                numbers.extend(snapshot.by_object_id(&record.id)?.map(|(number, _)| number));
            }
            Ok::<_, crate::error::Error>(numbers)
        })?;
        self.note(cx, &numbers)
    }

    fn note(&mut self, cx: &SessionContext<'_>, numbers: &[RecordNumber]) -> Result<()> {
        cx.store.view(|snapshot| self.account(snapshot).map(drop))?;
        if let Some(account) = self.account.take() {
            // What was read of it before may be out of date: it is read again.
            account.note(cx.store, numbers)?;
        }
        Ok(())
    }
}
