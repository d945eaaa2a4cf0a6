//! The reading half of a connection: bytes in, messages out.

use keyferry_ttlv::{Error, ErrorKind, Frame, Framer};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// The reading half of a connection: bytes in, messages out. Every future here may be dropped and asked for again without losing
/// a byte.
pub(crate) struct Input {
    framer: Framer,
}

/// The result of one step of reading.
pub(crate) enum Progress {
    Frame(Frame),
    Part,
    End,
}

/// Why a stream can't be read any further.
pub(crate) enum Broken {
    /// The connection failed.
    Stream(io::Error),
    /// These are no messages, or the last one is not whole.
    Message(Error),
}

impl Input {
    pub(crate) fn new(message_size: usize) -> Self {
        Input {
            framer: Framer::new(message_size),
        }
    }

    /// Whether a message has begun.
    pub(crate) fn is_midway(&self) -> bool {
        self.framer.is_midway()
    }

    /// The error of a message that stays incomplete.
    pub(crate) fn truncated(&self) -> Error {
        Error::new(ErrorKind::Truncated(self.framer.needed()))
    }

    fn poll_step<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Progress, Broken>> {
        let mut space = ReadBuf::new(self.framer.space());
        let read = ready!(Pin::new(stream).poll_read(cx, &mut space));
        let n = space.filled().len();
        match read {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && self.is_midway() => {
                return Poll::Ready(Err(Broken::Message(self.truncated())));
            }
            Err(error) => return Poll::Ready(Err(Broken::Stream(error))),
            Ok(()) if n == 0 && self.is_midway() => {
                return Poll::Ready(Err(Broken::Message(self.truncated())));
            }
            Ok(()) if n == 0 => return Poll::Ready(Ok(Progress::End)),
            Ok(()) => {}
        }
        if let Err(error) = self.framer.filled(n) {
            return Poll::Ready(Err(Broken::Message(error)));
        }
        Poll::Ready(Ok(self
            .framer
            .frame()
            .map_or(Progress::Part, Progress::Frame)))
    }

    /// Waits for some bytes.
    pub(crate) async fn step<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> Result<Progress, Broken> {
        poll_fn(|cx| self.poll_step(stream, cx)).await
    }

    fn poll_frame<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame>, Broken>> {
        loop {
            match ready!(self.poll_step(stream, cx))? {
                Progress::Frame(frame) => return Poll::Ready(Ok(Some(frame))),
                Progress::Part => {}
                Progress::End => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// Waits for a whole message, or for the end of the stream between two messages.
    pub(crate) async fn frame<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> Result<Option<Frame>, Broken> {
        poll_fn(|cx| self.poll_frame(stream, cx)).await
    }

    /// A message that is there already; nothing when there would be something to wait for.
    pub(crate) async fn ready<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> Option<Result<Option<Frame>, Broken>> {
        poll_fn(|cx| {
            Poll::Ready(match self.poll_frame(stream, cx) {
                Poll::Ready(result) => Some(result),
                Poll::Pending => None,
            })
        })
        .await
    }
}
