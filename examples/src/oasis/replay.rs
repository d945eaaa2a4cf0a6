//! Plays the client of a case against a server of ours, one for each case, and compares what it answers with what the case has.
//!
//! The server's time is the case's own: that of its answers' Time Stamps where they are written in full. Otherwise it stands still, and
//! goes on to the next moment that a request spoke of when the case reads something again until it has changed.
//!
//! Put and Notify are what a server says to a client: they go to a second server, which takes them from the first. A case that goes on
//! where another one left off finds registered what it looks for.

use super::case::{Case, Kind, Message, Placeholder};
use super::compare::{Difference, Known, MARK, operation};
use super::tree::Node;
use super::{Outcome, before};
use crate::Result;
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::spec::{Operation, ResultStatus, tag};
use keyferry_kmip::{
    Answer, Credential, CredentialValue, DateTime, Failure, Identity, Now, Random, Text, Tick,
    context,
};
use keyferry_s2s::{Peer, Policy};
use keyferry_server::{Access, Authenticator, Options, Server};
use keyferry_store::{Incarnation, Memory};
use keyferry_ttlv::{Frame, Version, xml};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The operations that are tried. A case that uses another one is left alone.
pub const TRIED: &[Operation] = &[
    Operation::DISCOVER_VERSIONS,
    Operation::QUERY,
    Operation::CREATE,
    Operation::CREATE_KEY_PAIR,
    Operation::REGISTER,
    Operation::ACTIVATE,
    Operation::REVOKE,
    Operation::DESTROY,
    Operation::ARCHIVE,
    Operation::RECOVER,
    Operation::LOCATE,
    Operation::CHECK,
    Operation::GET,
    Operation::GET_ATTRIBUTES,
    Operation::GET_ATTRIBUTE_LIST,
    Operation::ADD_ATTRIBUTE,
    Operation::MODIFY_ATTRIBUTE,
    Operation::SET_ATTRIBUTE,
    Operation::ADJUST_ATTRIBUTE,
    Operation::DELETE_ATTRIBUTE,
    Operation::OBTAIN_LEASE,
    Operation::GET_USAGE_ALLOCATION,
    Operation::RE_KEY,
    Operation::RE_KEY_KEY_PAIR,
    Operation::IMPORT,
    Operation::EXPORT,
    Operation::PUT,
    Operation::NOTIFY,
    Operation::SET_ENDPOINT_ROLE,
    Operation::PING,
    Operation::LOG,
    Operation::INTEROP,
];

/// When cases begin that do not tell, in seconds since 1970: after every date that is written in full in them.
const BEGIN: i64 = 1_600_000_000;

/// Plays a case.
///
/// # Errors
/// When no server can be made.
pub fn check(case: &Case) -> Result<Outcome> {
    let mut exchanges = Vec::new();
    let mut messages = case.messages.iter().peekable();
    while let Some(request) = messages.next() {
        if request.kind == Kind::Response {
            return Ok(Outcome::Fail(format!(
                "Response Message: nothing was asked (line {})",
                request.line_of(0)
            )));
        }
        let answer = messages.next_if(|next| next.kind == Kind::Response);
        exchanges.push((request, answer));
    }
    let mut trees = Vec::new();
    for (request, answer) in &exchanges {
        let asked = match parse(request, stand_in) {
            Ok((_, asked, _)) => asked,
            Err(why) => return Ok(Outcome::Fail(why)),
        };
        if let Some(other) = asked
            .all(tag::BATCH_ITEM)
            .filter_map(operation)
            .find(|operation| !TRIED.contains(operation))
        {
            return Ok(Outcome::Unsupported(other.to_string()));
        }
        match answer.map(|answer| parse(answer, |placeholder| in_answer(placeholder, BEGIN))) {
            Some(Ok((_, answered, version))) => trees.push((version, (asked, answered))),
            Some(Err(why)) => return Ok(Outcome::Fail(why)),
            None => {}
        }
    }
    let version = trees.first().map_or(Version::V1_0, |(version, _)| *version);
    let trees: Vec<(Node, Node)> = trees.into_iter().map(|(_, trees)| trees).collect();
    let began = trees
        .iter()
        .find_map(|(_, answer)| time_stamp(answer))
        .unwrap_or(BEGIN);
    let mut play = Play::new(began)?;
    for registration in before::registrations(&trees, version) {
        let reply = play.ask(&Frame::new(registration.to_bytes()), &registration);
        if let Some(Ok(reply)) = reply.map(|reply| Node::read(&reply, version)) {
            play.known.make(&reply);
        }
    }
    for (request, answer) in exchanges {
        if let Err(why) = play.exchange(request, answer) {
            return Ok(Outcome::Fail(why));
        }
    }
    Ok(Outcome::Pass)
}

/// A case that is being played.
struct Play {
    server: Server,
    /// Who the server sends to.
    receiver: Server,
    caller: Identity,
    known: Known,
    /// The moments that requests spoke of and that have not come yet.
    ahead: BTreeSet<i64>,
}

/// What a placeholder is filled with when only the operations are looked for.
fn stand_in(placeholder: &Placeholder) -> Option<String> {
    Some(match placeholder.ty.as_str() {
        "TextString" => return None,
        "ByteString" | "BigInteger" => "00".repeat(16),
        "DateTime" => date(placeholder, BEGIN),
        _ => "1".to_owned(),
    })
}

/// A server of its own for a case.
fn server(name: &str, policy: Policy) -> Result<Server> {
    let mut incarnation = [0; 16];
    SystemRandom::new().fill(&mut incarnation)?;
    Ok(Server::new(Options {
        server: name.into(),
        store: Arc::new(Memory::new(Incarnation(incarnation))),
        crypto: Arc::new(Ring::new()),
        random: Box::new(SystemRandom::new()),
        access: Access::Authenticated,
        policy,
    })?
    .with_interop()
    .with_authenticator(Arc::new(ByName)))
}

/// Takes every credential for good: whoever says a user or a device is it.
struct ByName;

impl Authenticator for ByName {
    fn authenticate(
        &self,
        tls: &Identity,
        credentials: &[Credential],
    ) -> std::result::Result<Identity, Failure> {
        let name = credentials
            .iter()
            .find_map(|credential| match &credential.value {
                CredentialValue::UsernameAndPassword(user) => Some(user.username.to_string()),
                CredentialValue::Device(device) => device
                    .device_serial_number
                    .as_ref()
                    .or(device.device_identifier.as_ref())
                    .map(Text::to_string),
                _ => None,
            });
        Ok(name.map_or_else(
            || tls.clone(),
            |name| Identity {
                name,
                ..tls.clone()
            },
        ))
    }
}

/// A message of the case as bytes and as a tree, its placeholders filled.
fn parse(
    message: &Message,
    value: impl FnMut(&Placeholder) -> Option<String>,
) -> std::result::Result<(Frame, Node, Version), String> {
    let text = message.filled(value);
    let number = |number: i32| u8::try_from(number).ok();
    let version = message
        .version
        .and_then(|(major, minor)| Some(Version::new(number(major)?, number(minor)?)));
    let version = version.unwrap_or(Version::V1_0);
    let frame = xml::to_ttlv(&text, context(version)).map_err(|error| {
        let line = message.line_at(&text, error.offset().unwrap_or_default());
        format!("{error} (line {line})")
    })?;
    let node = Node::read(&frame, version).map_err(|error| error.to_string())?;
    Ok((frame, node, version))
}

impl Play {
    fn new(began: i64) -> Result<Play> {
        let caller = Identity::new("oasis");
        let sender = Peer::new("oasis").may_send().may_relay().foreign();
        Ok(Play {
            server: server("oasis", Policy::closed())?,
            receiver: server("client", Policy::closed().with(caller.name.clone(), sender))?,
            caller,
            known: Known::at(began),
            ahead: BTreeSet::new(),
        })
    }

    /// Sends a request, again and again while its answer is another and there is something to wait for.
    fn exchange(
        &mut self,
        request: &Message,
        answer: Option<&Message>,
    ) -> std::result::Result<(), String> {
        let line = request.line_of(0);
        let mut unknown = None;
        for placeholder in request
            .placeholders
            .iter()
            .filter(|placeholder| placeholder.name == "NOW")
        {
            self.ahead
                .insert(self.known.now.saturating_add(placeholder.offset));
        }
        let (frame, asked, _) = parse(request, |placeholder| {
            let value = self.in_request(placeholder);
            if value.is_none() {
                unknown.get_or_insert_with(|| placeholder.name.clone());
            }
            value
        })?;
        if let Some(name) = unknown {
            return Err(format!(
                "Request Message: no answer has told what ${name} stands for (line {line})"
            ));
        }
        self.known.give(&asked);
        let written = answer
            .map(|answer| parse(answer, |placeholder| in_answer(placeholder, MARK)))
            .transpose()?;
        if let Some(moment) = written
            .as_ref()
            .and_then(|(_, answer, _)| time_stamp(answer))
        {
            self.known.now = self.known.now.max(moment);
        }
        loop {
            let reply = self
                .ask(&frame, &asked)
                .ok_or_else(|| format!("Request Message: was not answered (line {line})"))?;
            let (Some(answer), Some((_, expected, version))) = (answer, &written) else {
                return Ok(());
            };
            let reply = Node::read(&reply, *version)
                .map_err(|error| format!("Response Message: {error} (line {line})"))?;
            let mut known = self.known.clone();
            match known.compare(answer, &asked, expected, &reply, *version) {
                Ok(()) => {
                    self.known = known;
                    return Ok(());
                }
                Err(_) if only_reads(&asked) && self.wait() => {}
                Err(difference) => return Err(told(answer, &reply, &difference)),
            }
        }
    }

    fn ask(&self, request: &Frame, tree: &Node) -> Option<Frame> {
        let mut operations = tree.all(tag::BATCH_ITEM).filter_map(operation);
        let is_to_client =
            operations.all(|operation| matches!(operation, Operation::PUT | Operation::NOTIFY));
        let server = if is_to_client {
            &self.receiver
        } else {
            &self.server
        };
        let seconds = self.known.now - self.known.began;
        let now = Now {
            tick: Tick(u64::try_from(seconds).ok()? * 1000),
            wall: DateTime(self.known.now),
        };
        match server.answer(&self.caller, now, request) {
            Answer::Reply(reply) | Answer::ReplyAndClose(reply) => Some(reply),
            _ => None,
        }
    }

    /// Lets time pass until the next moment that was spoken of, if there is one.
    fn wait(&mut self) -> bool {
        self.ahead = self.ahead.split_off(&self.known.now.saturating_add(1));
        match self.ahead.pop_first() {
            Some(next) => {
                self.known.now = next;
                true
            }
            None => false,
        }
    }

    /// What stands in a request for a placeholder.
    fn in_request(&self, placeholder: &Placeholder) -> Option<String> {
        if placeholder.name == "NOW" {
            return Some(date(placeholder, self.known.now));
        }
        let value = self.known.value(&placeholder.name)?;
        match placeholder.ty.as_str() {
            "TextString" => std::str::from_utf8(value).ok().map(str::to_owned),
            "ByteString" => Some(hexadecimal(value)),
            _ => None,
        }
    }
}

/// The moment that an answer of the case was given, where it is written in full.
fn time_stamp(answer: &Node) -> Option<i64> {
    let header = answer.child(tag::RESPONSE_HEADER)?;
    header
        .child(tag::TIME_STAMP)?
        .as_date()
        .filter(|moment| *moment < BEGIN)
}

/// What stands for a placeholder in the answer of the case: a mark that the comparison knows it by.
fn in_answer(placeholder: &Placeholder, now: i64) -> Option<String> {
    match placeholder.ty.as_str() {
        "ByteString" => Some(hexadecimal(format!("${}", placeholder.name).as_bytes())),
        "DateTime" => Some(date(placeholder, now)),
        // The text is the mark.
        _ => None,
    }
}

fn date(placeholder: &Placeholder, now: i64) -> String {
    format!("0x{:016x}", now.saturating_add(placeholder.offset))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a request changes nothing, so that it may be sent again.
fn only_reads(request: &Node) -> bool {
    let reads = [
        Operation::GET,
        Operation::GET_ATTRIBUTES,
        Operation::GET_ATTRIBUTE_LIST,
        Operation::LOCATE,
        Operation::CHECK,
    ];
    request
        .all(tag::BATCH_ITEM)
        .all(|item| operation(item).is_some_and(|operation| reads.contains(&operation)))
}

/// A difference in a line, with what the server said of an item that it failed.
fn told(answer: &Message, reply: &Node, difference: &Difference) -> String {
    let failed = reply.all(tag::BATCH_ITEM).find(|item| {
        item.child(tag::RESULT_STATUS)
            .and_then(Node::as_number)
            .is_some_and(|status| status != ResultStatus::SUCCESS.0)
    });
    let said = failed
        .and_then(|item| item.text(tag::RESULT_MESSAGE))
        .map(|said| format!("; the server says: {said}"));
    let (path, line) = (
        difference.path.join(" > "),
        answer.line_of(difference.number),
    );
    format!(
        "{path}: {}{} (line {line})",
        difference.why,
        said.unwrap_or_default()
    )
}
