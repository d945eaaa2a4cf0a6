//! What a pull makes of the responses to its requests.

use crate::error::{Error, ErrorKind, Result};
use crate::pull::answers::{FetchedObject, fetched_object};
use crate::pull::options::PullStrategy;
use crate::pull::{InFlight, PeerQuery, Pull, Sought, Why, observing};
use crate::report::ObjectResult;
use crate::session::SessionContext;
use keyferry_kmip::spec::ResultReason as Reason;
use keyferry_kmip::{LocateResponse, Lost, QueryResponse, ResponseMessage, Ticket, context};

impl Pull {
    /// Takes what came for a request, or that nothing will come any more.
    pub(super) fn take_response(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        let Ok(response) = response else {
            self.ask_again_for_all();
            return Ok(());
        };
        let request = self
            .flights
            .pop_front_if(|(expected, _)| *expected == ticket);
        match request {
            Some((_, InFlight::Query)) => self.take_query(cx, &response),
            Some((_, InFlight::Locate)) => self.take_list(cx, &response),
            Some((_, InFlight::Fetch(sought))) => self.take_objects(cx, sought, &response),
            None => Err(Error::new(
                ErrorKind::Protocol,
                "an answer came to nothing that was asked",
            )),
        }
    }

    /// Puts what was under way back, to be asked for again once there is a connection.
    fn ask_again_for_all(&mut self) {
        for (_, request) in std::mem::take(&mut self.flights).into_iter().rev() {
            if let InFlight::Fetch(sought) = request {
                sought
                    .into_iter()
                    .rev()
                    .for_each(|sought| self.wanted.push_front(sought));
            }
        }
        self.peer = PeerQuery::NotAsked;
        self.locating = false;
    }

    /// Takes the answer to a Query: whether the peer can do what the strategy needs.
    fn take_query(
        &mut self,
        cx: &mut SessionContext<'_>,
        response: &ResponseMessage,
    ) -> Result<()> {
        let version = self.options.version;
        let query: Option<QueryResponse> = response
            .batch
            .first()
            .filter(|item| item.is_success())
            .and_then(|item| item.payload(context(version)).ok());
        let Some(query) = query else {
            return Err(Error::new(
                ErrorKind::Peer,
                format_args!("the peer does not answer Query in {version}"),
            ));
        };
        let lacking = self
            .options
            .strategy
            .operations()
            .iter()
            .find(|one| !query.operations.contains(one));
        if let Some(lacking) = lacking {
            return Err(Error::new(
                ErrorKind::Peer,
                format_args!("the peer does not offer {lacking}"),
            ));
        }
        self.peer = PeerQuery::Answered;
        self.begin_pass(cx, response.header.time_stamp)
    }

    /// Takes the answer to a Locate.
    fn take_list(&mut self, cx: &mut SessionContext<'_>, response: &ResponseMessage) -> Result<()> {
        self.locating = false;
        let is_window = self.is_window();
        let Some(listing) = &mut self.listing else {
            return Ok(());
        };
        let Some(item) = response.batch.first() else {
            return Err(Error::new(
                ErrorKind::Protocol,
                "a Locate was answered with nothing",
            ));
        };
        if !item.is_success() {
            if is_window && item.result_reason != Some(Reason::RESPONSE_TOO_LARGE) {
                return self.widen(cx, observing::is_unknown(item.result_reason));
            }
            listing.refused(
                item.result_reason,
                item.result_message.as_deref().unwrap_or("no reason given"),
            );
            return Ok(());
        }
        let found: LocateResponse = item
            .payload(context(self.options.version))
            .map_err(Error::protocol)?;
        listing.set_located_items(found.located_items);
        let fresh = listing.found(found.unique_identifiers.iter());
        self.wanted
            .extend(fresh.into_iter().map(|identifier| Sought {
                identifier,
                why: Why::Located,
                planned: None,
            }));
        Ok(())
    }

    /// Takes the answer to a request for objects.
    fn take_objects(
        &mut self,
        cx: &mut SessionContext<'_>,
        sought: Vec<Sought>,
        response: &ResponseMessage,
    ) -> Result<()> {
        // A Get and a Get Attributes, or one Export.
        let each = match self.options.strategy {
            PullStrategy::Get => 2,
            PullStrategy::Export => 1,
        };
        let is_whole = response.batch.len() == each * sought.len();
        let is_too_large = response
            .batch
            .iter()
            .any(|item| item.result_reason == Some(Reason::RESPONSE_TOO_LARGE));
        let stopped = !self.continues && !response.batch.is_empty();
        if !(is_whole || stopped) || is_too_large && sought.len() > 1 {
            return self.ask_in_smaller_messages(cx, sought, response);
        }
        self.batch = (self.batch + 1).min(self.options.batch.max(1));
        let bytes: usize = response
            .batch
            .iter()
            .filter_map(|item| item.response_payload.as_ref())
            .map(|raw| raw.bytes().len())
            .sum();
        self.ledger.report.counts.bytes += i64::try_from(bytes).unwrap_or(i64::MAX);
        let version = self.options.version;
        let fetched = sought
            .into_iter()
            .zip(response.batch.chunks(each))
            .map(|(sought, items)| {
                let fetched = fetched_object(&sought, items, context(version))
                    .unwrap_or_else(FetchedObject::ObjectResult);
                (sought, fetched)
            })
            .collect();
        self.apply(cx, fetched)
    }

    /// Has the objects asked for again, in smaller messages; one alone is refused for good.
    fn ask_in_smaller_messages(
        &mut self,
        cx: &mut SessionContext<'_>,
        mut sought: Vec<Sought>,
        response: &ResponseMessage,
    ) -> Result<()> {
        let item = response.batch.first();
        if sought.len() > 1 {
            self.batch = (sought.len() / 2).max(1);
            sought
                .into_iter()
                .rev()
                .for_each(|sought| self.wanted.push_front(sought));
            return Ok(());
        }
        let reason = item.and_then(|item| item.result_reason);
        let unknown_option = matches!(
            reason,
            Some(
                Reason::FEATURE_NOT_SUPPORTED
                    | Reason::INVALID_MESSAGE
                    | Reason::OPERATION_NOT_SUPPORTED
            )
        );
        if self.continues && unknown_option && self.options.strategy == PullStrategy::Get {
            (self.continues, self.batch) = (false, 1);
            self.wanted.extend(sought.pop());
            return Ok(());
        }
        let message = item
            .and_then(|item| item.result_message.as_ref())
            .map(ToString::to_string)
            .unwrap_or_default();
        let told = sought.into_iter().map(|sought| {
            let told = ObjectResult::failed(&sought.identifier, reason, message.clone());
            (sought, FetchedObject::ObjectResult(told))
        });
        self.apply(cx, told.collect())
    }
}
