//! The next message of a bulk session: which objects it has, and what is sent of each.

use crate::error::{Error, ErrorKind, Result};
use crate::material::transit::{reason_withheld, wrap_for_transit};
use crate::outgoing::feed::{FeedPage, estimated_size};
use crate::outgoing::item::{
    MAX_ITEM_BYTES, SendOptions, Strategy, conditional_request_item, item_size,
    representable_attributes,
};
use crate::push::bulk::answers::existence_check;
use crate::push::bulk::transport::Transport;
use crate::push::bulk::{Batch, Bulk, Content, Flight, Outgoing};
use crate::push::publish::STATE_NOT_KEPT;
use crate::push::publish::steps::is_usable;
use crate::report::ObjectResult;
use crate::session::SessionContext;
use crate::transfer::plan::{Planned, PlannedSource};
use crate::wire::copy::Expected;
use keyferry_kmip::spec::BatchErrorContinuationOption;
use keyferry_kmip::{Object, RequestItem, RequestMessage, Ticket};
use keyferry_store::{Record, StoreExt};
use keyferry_ttlv::Extra;

/// What the session does next.
pub(super) enum NextMessage {
    Send(Box<RequestMessage>),
    /// Objects were read, and none of them is sent. They count as answered when their turn comes.
    NothingToSend,
    /// All objects were read.
    End,
}

/// Objects for a message, and the feed number of the last entry.
struct Gathered {
    objects: Vec<GatheredObject>,
    end: u64,
}

struct GatheredObject {
    record: Record,
    object: Option<Object>,
    planned: Option<Planned>,
    /// Whether the peer was sent it before.
    was_pushed: bool,
}

/// What is sent of an object, or why nothing is.
enum Prepared {
    Item(RequestItem),
    Refused(String),
}

impl Bulk {
    /// Makes the next message, with fewer objects when they would not fit.
    pub(super) fn next_message(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        keyferry: bool,
    ) -> Result<NextMessage> {
        // A Put's header may not ask a foreign client to go on behind a failure (KMIP 1.4 §5.2): one object a message then.
        let mut most = if self.options.strategy == Strategy::Put && !keyferry {
            1
        } else {
            self.options.batch
        };
        loop {
            let Some(Gathered { objects, end }) = self.gather(cx, keyferry, most)? else {
                return Ok(NextMessage::End);
            };
            let half = objects.len() / 2;
            let (mut items, mut objects) = self.prepare_objects(cx, keyferry, objects)?;
            let mut bytes = items.iter().map(item_size).sum();
            if bytes > MAX_ITEM_BYTES {
                if half > 0 {
                    most = half;
                    continue;
                }
                // A single object that is too large stays here, and the others are sent.
                refuse_as_too_large(&mut objects, bytes);
                items.clear();
                bytes = 0;
            }
            self.read_up_to = end;
            self.flights.push_back(Flight {
                ticket,
                content: Content::Objects(Batch {
                    end,
                    objects,
                    bytes,
                }),
            });
            if items.is_empty() {
                return Ok(NextMessage::NothingToSend);
            }
            return Ok(NextMessage::Send(Box::new(self.message(items))));
        }
    }

    fn message(&self, items: Vec<RequestItem>) -> RequestMessage {
        let mut message = RequestMessage::new(self.options.version, items);
        if message.batch.len() > 1 {
            // Nothing is done behind an object that is not as planned.
            let option = if self.ledger.executing.is_some() {
                BatchErrorContinuationOption::STOP
            } else {
                BatchErrorContinuationOption::CONTINUE
            };
            message.header.batch_error_continuation_option = Some(option);
        }
        message
    }

    /// Reads the objects of the next message, at most `most`, from the plan or from the feed; `None` at the end.
    fn gather(
        &mut self,
        cx: &SessionContext<'_>,
        keyferry: bool,
        most: usize,
    ) -> Result<Option<Gathered>> {
        if self.ledger.executing.is_some() {
            return self.gather_planned(cx, keyferry, most);
        }
        let chosen = match self.chosen.take() {
            Some(chosen) => chosen,
            None => self.start(cx)?,
        };
        let tells_pushed = keyferry && self.ledger.planning.is_none();
        let pushed = &mut self.pushed;
        let page = FeedPage::read(
            cx.store,
            self.read_up_to,
            most,
            self.options.batch_bytes,
            &chosen,
            &mut |snapshot, number, record| {
                Ok(tells_pushed && pushed.is_told(snapshot, number, record)?)
            },
        );
        if let (Ok(Some(page)), true, false) = (&page, keyferry, self.ledger.dry_run) {
            let ahead = self.options.batch.saturating_mul(self.options.in_flight);
            let is_wrapped = self.wrapping.is_some();
            pushed.note_ahead(cx, &chosen, is_wrapped, (self.read_up_to, page.end), ahead)?;
        }
        self.chosen = Some(chosen);
        let Some(page) = page? else {
            return Ok(None);
        };
        let pushed = &mut self.pushed;
        let were_pushed: Vec<bool> = cx.store.view::<_, Error>(|snapshot| {
            let numbers = page.objects.iter().map(|(number, ..)| *number);
            numbers
                .map(|number| Ok(tells_pushed && pushed.has(snapshot, number)?))
                .collect()
        })?;
        let objects = page.objects.into_iter().zip(were_pushed);
        let objects = objects
            .map(|((_, record, object), was_pushed)| GatheredObject {
                record,
                object,
                planned: None,
                was_pushed,
            })
            .collect();
        Ok(Some(Gathered {
            objects,
            end: page.end,
        }))
    }

    /// Reads the next objects of the plan, up to one that is not as planned. If that is the first one, the execution stops at it.
    fn gather_planned(
        &mut self,
        cx: &SessionContext<'_>,
        keyferry: bool,
        most: usize,
    ) -> Result<Option<Gathered>> {
        let Some(plan) = &mut self.ledger.executing else {
            return Ok(None);
        };
        let (mut objects, mut size) = (Vec::new(), 0);
        for planned in plan.upcoming(most)? {
            match planned.find_source(cx)? {
                PlannedSource::AsPlanned(source) => {
                    let (record, object) = *source;
                    size += estimated_size(object.as_ref());
                    objects.push(GatheredObject {
                        record,
                        object,
                        planned: Some(planned),
                        was_pushed: false,
                    });
                }
                PlannedSource::Changed {
                    planned: was,
                    found,
                } => {
                    if objects.is_empty() {
                        self.ledger.stop(&planned, was, found);
                    }
                    break;
                }
            }
            if size >= self.options.batch_bytes {
                break;
            }
        }
        if keyferry && !self.ledger.dry_run {
            let records = objects.iter().map(|object| &object.record);
            self.pushed.note_planned(cx, records)?;
        }
        Ok((!objects.is_empty()).then_some(Gathered { objects, end: 0 }))
    }

    /// Makes the items of a message, and notes of each object what is lost, or why it stays here.
    fn prepare_objects(
        &self,
        cx: &mut SessionContext<'_>,
        keyferry: bool,
        objects: Vec<GatheredObject>,
    ) -> Result<(Vec<RequestItem>, Vec<Outgoing>)> {
        let options = self.send_options(keyferry)?;
        let (mut items, mut prepared) = (Vec::new(), Vec::new());
        for gathered in objects {
            let record = &gathered.record;
            let mut outgoing = Outgoing {
                identifier: record.identifier.clone(),
                id: record.id.clone(),
                digest: if self.ledger.planning.is_some() {
                    Some(record.copy_digest()?)
                } else {
                    None
                },
                lost: if keyferry {
                    Vec::new()
                } else {
                    representable_attributes(&record.attributes, options.version).1
                },
                refused: None,
                without_material: false,
            };
            let identifier = record.identifier.clone();
            match self.prepare(cx, options, gathered, &mut outgoing.without_material)? {
                Prepared::Item(item) => items.push(item),
                Prepared::Refused(why) => {
                    outgoing.refused = Some(ObjectResult::failed(&identifier, None, why));
                }
            }
            prepared.push(outgoing);
        }
        Ok((items, prepared))
    }

    pub(super) fn send_options(&self, keyferry: bool) -> Result<SendOptions> {
        let strategy = self.options.strategy;
        if self.wrapping.is_some() && strategy != Strategy::Import {
            return Err(Error::new(
                ErrorKind::Peer,
                "only Import can say that a key was wrapped for its way",
            ));
        }
        Ok(SendOptions {
            strategy,
            version: self.options.version,
            keyferry,
            session: Some(self.ledger.report.counts.session),
            dry_run: self.ledger.dry_run,
            wrapped: false,
        })
    }

    /// Makes the item of an object, unless the object has to stay here.
    fn prepare(
        &self,
        cx: &mut SessionContext<'_>,
        mut options: SendOptions,
        gathered: GatheredObject,
        without_material: &mut bool,
    ) -> Result<Prepared> {
        let GatheredObject {
            record,
            mut object,
            planned,
            was_pushed,
        } = gathered;
        // An object that is destroyed has no material to withhold.
        let withheld =
            reason_withheld(&record, self.wrapping.is_some()).filter(|_| !record.is_destroyed());
        match withheld {
            // State and attributes go to whoever holds a copy (rule 9 of docs/design.md).
            Some(_) if was_pushed => object = None,
            Some(why) => return Ok(Prepared::Refused(why.to_owned())),
            None => {}
        }
        *without_material = object.is_none() && !record.is_destroyed();
        // Nobody can see what becomes of the State of an object that is Put (rule 14 of docs/design.md).
        if !options.keyferry && object.is_some() && !is_usable(record.state(cx.now.wall)) {
            return Ok(Prepared::Refused(STATE_NOT_KEPT.to_owned()));
        }
        // The peer is asked again about an object that it refused in the dry run, and must not take it now.
        options.dry_run |= planned
            .as_ref()
            .is_some_and(|planned| planned.outcome.is_failure());
        match self.item(cx, options, &record, object, planned) {
            Ok(item) => Ok(Prepared::Item(item)),
            // An object that the version can't say stays here, and the others are sent.
            Err(error) if error.kind() == ErrorKind::Encode => {
                Ok(Prepared::Refused(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    fn item(
        &self,
        cx: &mut SessionContext<'_>,
        options: SendOptions,
        record: &Record,
        object: Option<Object>,
        planned: Option<Planned>,
    ) -> Result<RequestItem> {
        if options.dry_run && !options.keyferry {
            return existence_check(&record.identifier, options.version);
        }
        let expected = planned
            .filter(|_| !options.dry_run)
            .map(|planned| Expected {
                held: planned.held,
                outcome: planned.outcome,
                extra: Extra::NONE,
            });
        let wrapping = match &self.transport {
            Transport::Ready(wrapping) => Some(&**wrapping),
            _ => self.wrapping.as_ref(),
        };
        let (object, wrapped) = wrap_for_transit(cx, wrapping, options.version, record, object)?;
        let options = SendOptions { wrapped, ..options };
        let sender = self.sender.as_ref().map(|sender| (sender, cx.store));
        conditional_request_item(options, record.clone(), object, sender, expected)
    }
}

/// Notes of objects that are not refused yet that they are too large for a message.
fn refuse_as_too_large(objects: &mut [Outgoing], bytes: usize) {
    let message = format!("the object takes about {bytes} bytes, more than a message may have");
    for object in objects {
        object
            .refused
            .get_or_insert_with(|| ObjectResult::failed(&object.identifier, None, message.clone()));
    }
}
