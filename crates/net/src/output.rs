//! The writing half of a connection: messages in order, small ones together.

use std::io::{self, IoSlice};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Small messages go out together up to this size.
const TOGETHER: usize = 64 * 1024;
/// And up to this number.
const SLICES: usize = 32;

/// Writes messages in order and flushes. Each lot of small ones, and each large one, has to be taken within `time`.
pub(crate) async fn write_frames<W, F>(
    writer: &mut W,
    frames: &[F],
    time: Duration,
) -> io::Result<u64>
where
    W: AsyncWrite + Unpin,
    F: AsRef<[u8]>,
{
    let mut rest = frames;
    let mut written = 0u64;
    while !rest.is_empty() {
        let mut bytes = 0usize;
        let mut count = 0;
        for frame in rest.iter().take(SLICES) {
            bytes = bytes.saturating_add(frame.as_ref().len());
            if count > 0 && bytes > TOGETHER {
                break;
            }
            count += 1;
        }
        let (now, later) = rest.split_at(count);
        let mut slices: Vec<IoSlice<'_>> = now
            .iter()
            .map(|frame| IoSlice::new(frame.as_ref()))
            .collect();
        written += timeout(time, write_slices(writer, &mut slices)).await??;
        rest = later;
    }
    timeout(time, writer.flush()).await??;
    Ok(written)
}

async fn write_slices<W: AsyncWrite + Unpin>(
    writer: &mut W,
    slices: &mut [IoSlice<'_>],
) -> io::Result<u64> {
    let mut slices = slices;
    let mut written = 0;
    IoSlice::advance_slices(&mut slices, 0); // drops empty ones at the front
    while !slices.is_empty() {
        match writer.write_vectored(slices).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => {
                IoSlice::advance_slices(&mut slices, n);
                written += n as u64;
            }
        }
    }
    Ok(written)
}
