//! [`Connector`], which opens connections to a server, and [`Connection`], on which a client calls it.

use crate::error::{Error, ErrorKind, Result};
use crate::identity::identity;
use crate::input::{Broken, Input};
use crate::output::write_frames;
use crate::tls::ClientConfig;
use keyferry_kmip::Identity;
use keyferry_ttlv::Frame;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The time that a goodbye may take.
pub(crate) const GOODBYE: Duration = Duration::from_secs(1);

/// The address of a server and the way to reach it.
#[derive(Clone, Debug)]
pub struct Connector {
    address: String,
    config: ClientConfig,
}

impl Connector {
    /// Connects to `address`, a host name or IP address with a port: `kms.example:5696`. The name is looked up for each connection.
    pub fn new(address: impl Into<String>, config: ClientConfig) -> Self {
        Connector {
            address: address.into(),
            config,
        }
    }

    /// The configuration.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Connects, both sides knowing who the other is. (With TLS 1.3 the server's verdict on the client comes with its first answer.)
    ///
    /// # Errors
    /// [`ErrorKind::Connect`] when nobody is there, [`ErrorKind::Tls`] when one side does not accept the other,
    /// [`ErrorKind::Timeout`].
    pub async fn connect(&self) -> Result<Connection> {
        match timeout(self.config.connect_time, self.establish()).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format_args!("{}: no connection in time", self.address),
            )),
        }
    }

    async fn establish(&self) -> Result<Connection> {
        let connect = |error: io::Error| {
            let context = format_args!("{}: {error}", self.address);
            Error::new(ErrorKind::Connect, context).with_source(error)
        };
        let tcp = TcpStream::connect(&self.address).await.map_err(connect)?;
        tcp.set_nodelay(true).map_err(connect)?;
        let tls = TlsConnector::from(self.config.tls.clone());
        let stream = tls
            .connect(self.config.server_name.clone(), tcp)
            .await
            .map_err(|error| {
                let kind = match ErrorKind::of_stream(&error) {
                    ErrorKind::Tls => ErrorKind::Tls,
                    _ => ErrorKind::Connect,
                };
                Error::new(kind, format_args!("{}: {error}", self.address)).with_source(error)
            })?;
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first());
        let Some(certificate) = certificate else {
            return Err(Error::new(
                ErrorKind::Tls,
                format_args!("{}: no server certificate", self.address),
            ));
        };
        let peer = identity(certificate)?;
        tracing::debug!(address = %self.address, ?peer, version = ?stream.get_ref().1.protocol_version(), "connected");
        let input = Input::new(self.config.message_size);
        Ok(Connection {
            stream,
            input,
            peer,
            answer_time: self.config.answer_time,
            in_step: true,
        })
    }
}

/// A connection to a server.
///
/// A call that failed or was dropped half-way leaves requests without answers behind: the connection is of no further use then, and
/// says so.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    input: Input,
    peer: Identity,
    answer_time: Duration,
    in_step: bool,
}

impl Connection {
    /// The server's identity.
    pub fn peer(&self) -> &Identity {
        &self.peer
    }

    /// The stream beneath, for speaking over it in some other way.
    pub fn into_stream(self) -> TlsStream<TcpStream> {
        self.stream
    }

    pub(crate) fn into_parts(self) -> (TlsStream<TcpStream>, Input) {
        (self.stream, self.input)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// When the connection is lost, or the answer does not come in time or is no message.
    pub async fn call(&mut self, request: &Frame) -> Result<Frame> {
        let mut answers = self.call_all(std::slice::from_ref(request)).await?;
        answers
            .pop()
            .ok_or_else(|| Error::new(ErrorKind::Lost, "no answer"))
    }

    /// Sends requests without waiting for the answers in between, and returns the answers in the order of the requests. Answers
    /// are read while requests are still being written, so neither side can block the other.
    ///
    /// # Errors
    /// As for [`call`](Connection::call). Answers that came before the failure are lost; use [`drive`](crate::drive) to know of each.
    pub async fn call_all(&mut self, requests: &[Frame]) -> Result<Vec<Frame>> {
        if !self.in_step {
            return Err(Error::new(
                ErrorKind::Lost,
                "an earlier call on this connection was not finished",
            ));
        }
        self.in_step = false;
        let (mut reader, mut writer) = split(&mut self.stream);
        let (input, time) = (&mut self.input, self.answer_time);
        let write = write_frames(&mut writer, requests, time);
        let read = async {
            let mut answers = Vec::with_capacity(requests.len());
            while answers.len() < requests.len() {
                answers.push(answer(input, &mut reader, time).await?);
            }
            Ok(answers)
        };
        // A failure to write shows in reading too, unless the server said why before it closed; that is worth waiting for.
        let (written, answers) = tokio::join!(write, read);
        let answers = match (written, answers) {
            (Err(error), Err::<Vec<Frame>, Error>(read)) if read.kind() != ErrorKind::Tls => {
                return Err(Error::stream(error));
            }
            (_, answers) => answers?,
        };
        self.in_step = true;
        Ok(answers)
    }

    /// Says goodbye and closes the connection.
    pub async fn close(mut self) {
        let _ = timeout(GOODBYE, self.stream.shutdown()).await; // the server may be gone
    }
}

async fn answer<S: AsyncRead + Unpin>(
    input: &mut Input,
    reader: &mut S,
    time: Duration,
) -> Result<Frame> {
    match timeout(time, input.frame(reader)).await {
        Err(_) => Err(Error::new(ErrorKind::Timeout, "no answer in time")),
        Ok(Ok(Some(frame))) => Ok(frame),
        Ok(Ok(None)) => Err(Error::new(ErrorKind::Lost, "closed by the peer")),
        Ok(Err(broken)) => Err(broken.into()),
    }
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Stream(error) => Error::stream(error),
            Broken::Message(error) => match error.kind() {
                keyferry_ttlv::ErrorKind::Truncated(_) => Error::of(ErrorKind::Lost, error),
                _ => Error::of(ErrorKind::Protocol, error),
            },
        }
    }
}
