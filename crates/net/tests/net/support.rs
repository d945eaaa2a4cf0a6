//! Certificates, frames, a toy handler and a toy conversation.

use keyferry_kmip::{
    Answer, Asking, Conversation, Handler, Identity, Lost, Now, RequestMessage, Step, Ticket,
    asks_to_turn, turn_answer,
};
use keyferry_net::{
    ClientConfig, Connection, Connector, Credentials, Limits, Server, ServerConfig, ServerHandle,
};
use keyferry_ttlv::{Error, Frame};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A certificate authority that lives as long as a test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
}

/// A certificate with its key.
pub(crate) struct Pair {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "test root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn issue(&self, subject: &[(DnType, &str)]) -> Pair {
        self.issue_for(&KeyPair::generate().unwrap(), subject)
    }

    /// A certificate for this key.
    pub(crate) fn issue_for(&self, key: &KeyPair, subject: &[(DnType, &str)]) -> Pair {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        Pair {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// A certificate from here, for someone who trusts certificates from here.
    pub(crate) fn credentials(&self, name: &str) -> Credentials {
        let pair = self.issue(&[(DnType::CommonName, name)]);
        Credentials::new(
            vec![self.certificate.clone()],
            vec![pair.certificate],
            pair.key,
        )
    }

    pub(crate) fn client(&self, name: &str) -> ClientConfig {
        ClientConfig::new(&self.credentials(name), "localhost").unwrap()
    }
}

/// A request or answer with a number and some ballast.
pub(crate) fn frame(number: u32, ballast: usize) -> Frame {
    let ballast = ballast.next_multiple_of(8);
    let mut bytes = vec![0x42, 0x00, 0x78, 0x01];
    bytes.extend_from_slice(&(24 + ballast as u32).to_be_bytes());
    bytes.extend_from_slice(&[0x42, 0x00, 0x0d, 0x02, 0, 0, 0, 4]);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[0x42, 0x00, 0xc2, 0x08]);
    bytes.extend_from_slice(&(ballast as u32).to_be_bytes());
    bytes.resize(bytes.len() + ballast, 0xa5);
    Frame::new(bytes)
}

/// What [`Toy`] answers: the same as a Response Message.
pub(crate) fn answer_to(request: &Frame) -> Frame {
    let mut bytes = request.to_vec();
    bytes[2] = 0x7b;
    Frame::new(bytes)
}

pub(crate) fn number(frame: &Frame) -> u32 {
    u32::from_be_bytes(frame[16..20].try_into().unwrap())
}

pub(crate) fn frames(count: u32, ballast: usize) -> Vec<Frame> {
    (0..count).map(|n| frame(n, ballast)).collect()
}

pub(crate) fn numbers(frames: &[Frame]) -> Vec<u32> {
    frames.iter().map(number).collect()
}

/// The number in an answer of `Toy::refuse`.
pub(crate) const REFUSED: u32 = 0xffff_ffff;

/// What [`Toy`] does with a request number, once.
#[derive(Clone, Copy)]
pub(crate) enum Trick {
    Close,
    ReplyAndClose,
    Panic,
    /// No answer at all, against the contract.
    Forget,
}

/// Echoes requests, and does as it was told with some. Turns the connection round while it has somebody who asks.
#[derive(Default)]
pub(crate) struct Toy {
    pub(crate) askings: Mutex<VecDeque<Box<dyn Conversation>>>,
    /// The numbers of the requests, in order.
    pub(crate) seen: Mutex<Vec<u32>>,
    pub(crate) callers: Mutex<Vec<Identity>>,
    pub(crate) groups: Mutex<Vec<usize>>,
    pub(crate) refusals: Mutex<Vec<Error>>,
    pub(crate) tricks: Mutex<BTreeMap<u32, Trick>>,
    pub(crate) gate: Gate,
}

/// Holds the handler back while it is closed.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn close(&self) {
        self.state.lock().unwrap().0 = true;
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().0 = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        while state.0 {
            state = self.changed.wait(state).unwrap();
        }
    }

    /// Waits until so many groups have come to the gate.
    pub(crate) async fn reached(self: &Gate, groups: usize) {
        while self.state.lock().unwrap().1 < groups {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Handler for Toy {
    fn handle(&self, caller: &Identity, now: Now, requests: &[Frame]) -> Vec<Answer> {
        self.callers.lock().unwrap().push(caller.clone());
        self.groups.lock().unwrap().push(requests.len());
        self.gate.pass();
        let mut answers = Vec::new();
        for request in requests {
            let message = RequestMessage::from_frame(request)
                .ok()
                .filter(asks_to_turn);
            if let Some(message) = message
                && let Some(asking) = self.askings.lock().unwrap().pop_front()
            {
                answers.push(Answer::Turn(
                    turn_answer(&message, now.wall).unwrap(),
                    Asking(asking),
                ));
                break;
            }
            self.seen.lock().unwrap().push(number(request));
            let trick = self.tricks.lock().unwrap().remove(&number(request));
            answers.push(match trick {
                None => Answer::Reply(answer_to(request)),
                Some(Trick::Close) => {
                    answers.push(Answer::Close);
                    break;
                }
                Some(Trick::ReplyAndClose) => {
                    answers.push(Answer::ReplyAndClose(answer_to(request)));
                    break;
                }
                Some(Trick::Panic) => panic!("the toy was told to panic"),
                Some(Trick::Forget) => continue,
            });
        }
        answers
    }

    fn refuse(&self, _: Now, why: &Error) -> Option<Frame> {
        self.refusals.lock().unwrap().push(why.clone());
        Some(frame(REFUSED, 0))
    }
}

/// A server on a port of its own.
pub(crate) struct Rig {
    pub(crate) authority: Authority,
    pub(crate) toy: Arc<Toy>,
    pub(crate) handle: ServerHandle,
}

impl Rig {
    pub(crate) async fn new() -> Rig {
        Rig::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Limits)) -> Rig {
        let authority = Authority::new();
        let mut config = ServerConfig::new(&authority.credentials("server")).unwrap();
        change(&mut config.limits);
        let toy = Arc::new(Toy::default());
        let server = Server::bind("127.0.0.1:0", config, toy.clone())
            .await
            .unwrap();
        Rig {
            authority,
            toy,
            handle: server.serve(),
        }
    }

    pub(crate) fn address(&self) -> String {
        self.handle.local_addr().to_string()
    }

    pub(crate) fn connector(&self) -> Connector {
        Connector::new(self.address(), self.authority.client("client"))
    }

    pub(crate) async fn connect(&self) -> Connection {
        self.connector().connect().await.unwrap()
    }

    /// Waits until a count has got that far.
    pub(crate) async fn until(&self, what: impl Fn(&keyferry_net::Counters) -> bool) {
        let counters = self.handle.counters();
        while !what(&counters) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Ends a test that hangs. Not a measurement: a passing test never comes near it.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), future)
        .await
        .expect("hangs")
}

/// Sends numbered requests, again after a loss, until each has its answer.
#[derive(Default)]
pub(crate) struct Counting {
    pub(crate) count: u32,
    pub(crate) ballast: usize,
    next: Vec<u32>,
    begun: bool,
    under_way: Vec<(Ticket, u32)>,
    pub(crate) tickets: Vec<Ticket>,
    pub(crate) answered: Vec<u32>,
    pub(crate) lost: Vec<(u32, String)>,
    /// Set once all requests of the first round are under way.
    pub(crate) all_sent: Arc<AtomicBool>,
}

impl Counting {
    pub(crate) fn new(count: u32, ballast: usize) -> Self {
        Counting {
            count,
            ballast,
            ..Counting::default()
        }
    }
}

impl Conversation for Counting {
    fn poll(&mut self, _: Now, ticket: Ticket) -> Step {
        if !self.begun {
            self.begun = true;
            self.next = (0..self.count).rev().collect();
        }
        if let Some(n) = self.next.pop() {
            self.under_way.push((ticket, n));
            self.tickets.push(ticket);
            return Step::Send(frame(n, self.ballast));
        }
        self.all_sent.store(true, Ordering::SeqCst);
        if self.under_way.is_empty() {
            Step::Done
        } else {
            Step::Wait(None)
        }
    }

    fn answer(&mut self, _: Now, ticket: Ticket, response: Result<Frame, Lost>) {
        let (oldest, n) = self.under_way.remove(0);
        assert_eq!(oldest, ticket, "answers come in the order of the requests");
        match response {
            Ok(response) => {
                assert_eq!(number(&response), n);
                assert_eq!(response.len(), frame(n, self.ballast).len());
                self.answered.push(n);
            }
            Err(Lost(reason)) => {
                self.lost.push((n, reason));
                self.next.push(n);
                self.next.sort_by(|a, b| b.cmp(a));
            }
        }
    }
}
