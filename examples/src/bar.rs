//! How far something has come: a bar on a terminal, elsewhere a line now and then. Both on standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use keyferry_s2s::Progress;
use std::io::{self, IsTerminal, Read, Write};
use std::time::{Duration, Instant};

/// How far apart lines stand.
const APART: Duration = Duration::from_secs(5);

/// Shows progress under a label.
pub struct Bar {
    label: String,
    bar: ProgressBar,
    /// Where there is no terminal: when it last said something.
    said: Option<Instant>,
}

/// An observer for a session, which shows what it is told.
pub fn observer(label: impl Into<String>) -> impl FnMut(&Progress) + Send + 'static {
    let mut bar = Bar::new(label);
    move |progress| bar.show(progress)
}

impl Bar {
    /// One that shows nothing yet.
    pub fn new(label: impl Into<String>) -> Bar {
        let is_terminal = io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            None,
            if is_terminal {
                ProgressDrawTarget::stderr()
            } else {
                ProgressDrawTarget::hidden()
            },
        );
        if let Ok(style) = ProgressStyle::with_template("{prefix:12} {wide_bar} {msg}") {
            bar.set_style(style);
        }
        let label = label.into();
        bar.set_prefix(label.clone());
        Bar {
            label,
            bar,
            said: (!is_terminal).then(Instant::now),
        }
    }

    /// Shows how far it is now.
    pub fn show(&mut self, progress: &Progress) {
        if progress.counts.finished {
            return self.bar.finish_and_clear();
        }
        match &mut self.said {
            None => {
                let (done, of) = match progress.of_objects {
                    Some(of) => (progress.objects, Some(of)),
                    None => (progress.bytes, progress.of_bytes),
                };
                of.into_iter().for_each(|of| self.bar.set_length(of));
                self.bar.set_position(done);
                self.bar.set_message(said(progress));
            }
            Some(last) if last.elapsed() >= APART => {
                *last = Instant::now();
                eprintln!("{}: {}", self.label, said(progress));
            }
            Some(_) => {}
        }
    }

    /// Lets something be printed in between.
    pub fn aside(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Progress in words.
fn said(progress: &Progress) -> String {
    let of = |of: Option<String>| of.map(|of| format!(" of {of}")).unwrap_or_default();
    let mega = |bytes: f64| format!("{:.1}", bytes / 1e6);
    let mut said = Vec::new();
    if progress.objects > 0 || progress.of_objects.is_some() {
        said.push(format!(
            "{}{} objects",
            progress.objects,
            of(progress.of_objects.map(|n| n.to_string()))
        ));
    }
    if progress.bytes > 0 || progress.of_bytes.is_some() {
        said.push(format!(
            "{}{} MB",
            mega(progress.bytes as f64),
            of(progress.of_bytes.map(|n| mega(n as f64)))
        ));
    }
    if let Some(rate) = progress.objects_per_second {
        said.push(format!("{rate:.0} objects/s"));
    }
    if let Some(rate) = progress.bytes_per_second {
        said.push(format!("{} MB/s", mega(rate)));
    }
    if let Some(remaining) = progress.remaining {
        said.push(format!("{} s left", remaining.as_secs()));
    }
    said.join(", ")
}

/// Shows how many of so many things are done, for what is no session.
pub fn counting(label: &str, of: u64) -> impl FnMut(u64) + use<> {
    let (mut bar, begun) = (Bar::new(label), Instant::now());
    move |done| {
        let rate = done as f64 / begun.elapsed().as_secs_f64();
        let remaining = Duration::try_from_secs_f64(of.saturating_sub(done) as f64 / rate).ok();
        bar.show(&Progress {
            objects: done,
            of_objects: Some(of),
            objects_per_second: Some(rate),
            remaining,
            ..Progress::default()
        });
    }
}

/// A file that shows how much of it was read or written.
pub struct Watched<F> {
    file: F,
    bar: Bar,
    begun: Instant,
    bytes: u64,
    of: Option<u64>,
}

impl<F> Watched<F> {
    /// This file, of so many bytes where that is known.
    pub fn new(label: &str, file: F, of: Option<u64>) -> Self {
        Watched {
            file,
            bar: Bar::new(label),
            begun: Instant::now(),
            bytes: 0,
            of,
        }
    }

    /// The file.
    pub fn into_inner(self) -> F {
        self.file
    }

    fn moved(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        let rate = self.bytes as f64 / self.begun.elapsed().as_secs_f64();
        let left = self
            .of
            .map(|of| of.saturating_sub(self.bytes) as f64 / rate);
        self.bar.show(&Progress {
            bytes: self.bytes,
            of_bytes: self.of,
            bytes_per_second: Some(rate),
            remaining: left.and_then(|left| Duration::try_from_secs_f64(left).ok()),
            ..Progress::default()
        });
    }
}

impl<F: Read> Read for Watched<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.moved(read);
        Ok(read)
    }
}

impl<F: Write> Write for Watched<F> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let written = self.file.write(from)?;
        self.moved(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
