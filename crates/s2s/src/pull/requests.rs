//! The requests of a pull: Query, Locate, and those that fetch objects.

use crate::error::{Error, Result};
use crate::pull::listing::Listing;
use crate::pull::options::PullStrategy;
use crate::pull::{InFlight, PeerQuery, Pull, Sought, Taken, Why, observing};
use crate::session::{SessionContext, Step};
use crate::transfer::plan::Planned;
use keyferry_kmip::projection::split_by_version;
use keyferry_kmip::spec::{AttributeValue, BatchErrorContinuationOption, QueryFunction};
use keyferry_kmip::{
    DateTime, ExportRequest, GetAttributesRequest, GetRequest, LocateRequest, Payload,
    QueryRequest, RequestItem, RequestMessage, Ticket, UniqueIdentifier, context,
};
use keyferry_store::record::read;
use keyferry_store::{Span, StoreExt};
use keyferry_ttlv::{Extra, Limits};
use std::ops::ControlFlow;

impl Pull {
    /// Asks the peer what it can do.
    pub(super) fn ask_query(&mut self, ticket: Ticket) -> Result<Step> {
        let query = QueryRequest {
            query_functions: vec![QueryFunction::QUERY_OPERATIONS],
            object_groups: None,
            extra: Extra::NONE,
        };
        let message = self.message(vec![self.item(&query)?]);
        self.peer = PeerQuery::Asked;
        self.flights.push_back((ticket, InFlight::Query));
        Ok(Step::Send(Box::new(message)))
    }

    /// Reads on in the plan, where one is executed and nothing that it names is left to be asked for.
    pub(super) fn read_plan(&mut self) -> Result<()> {
        let Some(plan) = self
            .ledger
            .executing
            .as_mut()
            .filter(|_| self.wanted.is_empty())
        else {
            return Ok(());
        };
        let planned = plan.upcoming(self.options.batch.max(1))?.into_iter();
        let sought = |planned: Planned| Sought {
            identifier: planned.identifier.clone(),
            why: Why::Located,
            planned: Some(planned),
        };
        self.wanted.extend(planned.map(sought));
        Ok(())
    }

    /// The next request: a Locate, or one for objects; `None` when there is nothing to ask for now.
    pub(super) fn next_request(&mut self, ticket: Ticket) -> Result<Option<Step>> {
        // The list is read on before what it brought is all asked for.
        if !self.locating
            && self.wanted.len() < self.batch * self.options.in_flight
            && let Some(locate) = self.locate()
        {
            self.locating = true;
            self.flights.push_back((ticket, InFlight::Locate));
            let message = self.message(vec![self.item(&locate)?]);
            return Ok(Some(Step::Send(Box::new(message))));
        }
        if self.wanted.is_empty() {
            return Ok(None);
        }
        let sought: Vec<Sought> = self
            .wanted
            .drain(..self.batch.min(self.wanted.len()))
            .collect();
        let message = self.fetch(&sought)?;
        self.flights.push_back((ticket, InFlight::Fetch(sought)));
        Ok(Some(Step::Send(Box::new(message))))
    }

    /// Begins the list, behind what was taken already.
    pub(super) fn list(&mut self, cx: &SessionContext<'_>, from: Option<DateTime>) -> Result<()> {
        let executes = self.ledger.executing.is_some();
        let mut criteria =
            split_by_version(&self.options.selection.criteria, self.options.version).0;
        // Whether a server knows patterns, nobody can tell: those are checked here alone.
        let is_pattern = |value: &AttributeValue| {
            value
                .item()
                .is_some_and(|raw| raw.bytes().iter().any(|byte| matches!(byte, b'*' | b'?')))
        };
        criteria
            .retain(|attribute| attribute.value.date().is_some() || !is_pattern(&attribute.value));
        for date in from.into_iter().flat_map(|from| [from, observing::LAST]) {
            criteria.push(AttributeValue::LastChangeDate(date));
        }
        let mut listing = Listing::new(self.options.version, criteria, cx.now.wall);
        let prefix = self.own_lists();
        cx.store.view::<_, Error>(|snapshot| {
            self.stored = 0;
            snapshot.state(&Span::prefix(&prefix), &mut |_, value| {
                self.stored += 1;
                let taken: Taken = read(value, "objects that were pulled")?;
                for identifier in &taken.identifiers {
                    listing.seen.insert(identifier);
                }
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(())
        })?;
        self.wanted.clear();
        if executes {
            return Ok(());
        }
        if let Some(listed) = &self.options.selection.listed {
            let left = listed
                .iter()
                .filter(|identifier| listing.seen.insert(identifier));
            // What a relation names may be gone some day.
            let why = if self.observing.is_some() {
                Why::Again
            } else {
                Why::Named
            };
            self.wanted.extend(left.map(|identifier| Sought {
                identifier: identifier.clone(),
                why,
                planned: None,
            }));
        }
        self.listing = Some(listing);
        Ok(())
    }

    /// What is asked next of a server's list; nothing when it was named.
    pub(super) fn locate(&self) -> Option<LocateRequest> {
        if self.options.selection.listed.is_some() {
            None
        } else {
            self.listing.as_ref()?.next()
        }
    }

    pub(super) fn item<P: Payload>(&self, payload: &P) -> Result<RequestItem> {
        RequestItem::new(payload, context(self.options.version)).map_err(Error::encode)
    }

    pub(super) fn message(&self, items: Vec<RequestItem>) -> RequestMessage {
        let mut message = RequestMessage::new(self.options.version, items);
        message.header.maximum_response_size = Some(self.options.largest);
        if message.batch.len() > 1 && self.continues {
            message.header.batch_error_continuation_option =
                Some(BatchErrorContinuationOption::CONTINUE);
        }
        message
    }

    fn fetch(&self, sought: &[Sought]) -> Result<RequestMessage> {
        let wrapping = self
            .options
            .wrapping
            .as_ref()
            .map(|wrapping| wrapping.specification(&wrapping.there, Vec::new()));
        let mut items = Vec::new();
        for Sought { identifier, .. } in sought {
            let unique_identifier = Some(UniqueIdentifier::Text(identifier.clone()));
            if self.options.strategy == PullStrategy::Export {
                let request = ExportRequest {
                    unique_identifier,
                    key_wrapping_specification: wrapping.clone(),
                    ..Default::default()
                };
                items.push(self.item(&request)?);
                continue;
            }
            // Attributes last, since a Get may change Fresh; first, where what follows a failure is not answered.
            let attributes = self.item(&GetAttributesRequest::of(identifier.as_str()))?;
            let get = GetRequest {
                unique_identifier,
                key_wrapping_specification: wrapping.clone(),
                ..Default::default()
            };
            let get = self.item(&get)?;
            items.extend(if self.continues {
                [get, attributes]
            } else {
                [attributes, get]
            });
        }
        let mut message = self.message(items);
        if sought.len() == 1 {
            // An object that comes alone may take what a message can.
            let most = i32::try_from(Limits::DEFAULT.size).unwrap_or(i32::MAX);
            message.header.maximum_response_size = Some(self.options.largest.max(most));
        }
        Ok(message)
    }

    /// How many objects there are: those that are done, and those that are asked for or will be.
    pub(super) fn expect(&mut self) {
        let Some(listing) = &self.listing else { return };
        let under_way = self.flights.iter().map(|(_, flight)| {
            if let InFlight::Fetch(sought) = flight {
                sought.len()
            } else {
                0
            }
        });
        let found = self.wanted.len() + under_way.sum::<usize>();
        let left = match self.locate() {
            None => Some(found),
            Some(_) => listing.unfound().map(|more| found.saturating_add(more)),
        };
        let left = left.and_then(|left| i64::try_from(left).ok());
        self.ledger.report.counts.total =
            left.map(|left| self.ledger.report.counts.asked.saturating_add(left));
    }
}
