//! Planted bugs that the conformance kit must catch: each wraps the memory store and breaks one promise.

use keyferry_store::conformance::{self, Subject};
use keyferry_store::*;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Clone, Copy, PartialEq)]
enum Bug {
    /// Every call of one read sees its own moment.
    TornRead,
    /// A failed write is committed.
    NoRollback,
    /// A transaction reads the state as it was before the write before it.
    StaleState,
    /// Every fifth write is rolled back and yet acknowledged.
    LostWrite,
    /// Every fifth feed entry turns up only when three more commits are made.
    LateEntry,
    /// Superseded index entries stay.
    IndexLeftBehind,
    /// A cursor names a key, not an entry.
    CoarseCursor,
    /// The commit id is that of the head, whatever number is asked for.
    WrongCommit,
    /// State comes in descending order.
    UnsortedState,
    /// `restored` forgets a key of the state.
    RestoredForgets,
    /// Material comes along when only attributes are asked for.
    MaterialUnasked,
    /// Numbers come back in another order than the puts.
    NumbersSwapped,
    /// What was written is gone when the store is opened again.
    Forgetful,
    /// The feed shows a superseded entry once more.
    OldEntryStays,
}

struct Buggy {
    inner: Memory,
    bug: Bug,
    writes: AtomicU64,
    /// The state before the last write.
    before: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
}

struct View<'a> {
    at: &'a dyn Snapshot,
    store: &'a Buggy,
    /// The state before the write began.
    stale: Option<&'a [(Vec<u8>, Vec<u8>)]>,
}

struct Change<'a, 'b> {
    tx: &'a mut dyn Transaction,
    store: &'b Buggy,
    stale: &'b [(Vec<u8>, Vec<u8>)],
}

impl Change<'_, '_> {
    fn view(&self) -> View<'_> {
        let stale = (self.store.bug == Bug::StaleState).then_some(self.stale);
        View {
            at: &*self.tx,
            store: self.store,
            stale,
        }
    }
}

impl View<'_> {
    /// The snapshot, or for a torn read that of this very moment.
    fn now(&self, f: &mut dyn FnMut(&dyn Snapshot) -> Result<()>) -> Result<()> {
        match self.store.bug {
            Bug::TornRead => self.store.inner.read(f),
            _ => f(self.at),
        }
    }

    fn one<T>(&self, f: impl Fn(&dyn Snapshot) -> Result<T>) -> Result<T> {
        let mut seen = None;
        self.now(&mut |at| {
            seen = Some(f(at)?);
            Ok(())
        })?;
        Ok(seen.unwrap())
    }
}

impl Snapshot for View<'_> {
    fn head(&self) -> Result<Position> {
        self.one(|at| at.head())
    }
    fn commit_id(&self, number: u64) -> Result<Option<CommitId>> {
        match self.store.bug {
            Bug::WrongCommit => Ok(Some(self.at.head()?.commit)),
            _ => self.one(|at| at.commit_id(number)),
        }
    }
    fn count(&self) -> Result<u64> {
        self.one(|at| at.count())
    }
    fn get(&self, number: RecordNumber, part: Part) -> Result<Option<Row>> {
        let part = if self.store.bug == Bug::MaterialUnasked {
            Part::Whole
        } else {
            part
        };
        self.one(|at| at.get(number, part))
    }
    fn scan(
        &self,
        index: Index,
        span: &Span,
        order: Order,
        after: Option<&Cursor>,
        visit: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut after = after.cloned();
        if let (Bug::CoarseCursor, Some(cursor)) = (self.store.bug, &mut after) {
            cursor.number = RecordNumber(if order == Order::Ascending {
                u64::MAX
            } else {
                0
            });
        }
        self.now(&mut |at| at.scan(index, span, order, after.as_ref(), visit))
    }
    fn feed(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let head = self.at.head()?.number;
        let mut doubled = self.store.bug != Bug::OldEntryStays;
        self.now(&mut |at| {
            at.feed(after, &mut |row| {
                if self.store.bug == Bug::LateEntry
                    && row.number.is_multiple_of(5)
                    && head < row.number + 3
                {
                    return Ok(ControlFlow::Continue(()));
                }
                if !doubled && row.number > 3 {
                    doubled = true;
                    let _ = visit(&FeedRow {
                        number: row.number - 1,
                        ..*row
                    })?;
                }
                visit(row)
            })
        })
    }
    fn state(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        if let Some(stale) = self.stale {
            for (key, value) in stale.iter().filter(|(key, _)| span.contains(key)) {
                if visit(key, value)?.is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let mut all = Vec::new();
        self.now(&mut |at| {
            at.state(span, &mut |key, value| {
                all.push((key.to_vec(), value.to_vec()));
                Ok(ControlFlow::Continue(()))
            })
        })?;
        if self.store.bug == Bug::UnsortedState {
            all.reverse();
        }
        for (key, value) in all {
            if visit(&key, &value)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Snapshot for Change<'_, '_> {
    fn head(&self) -> Result<Position> {
        self.tx.head()
    }
    fn commit_id(&self, number: u64) -> Result<Option<CommitId>> {
        self.tx.commit_id(number)
    }
    fn count(&self) -> Result<u64> {
        self.tx.count()
    }
    fn get(&self, number: RecordNumber, part: Part) -> Result<Option<Row>> {
        self.tx.get(number, part)
    }
    fn scan(
        &self,
        index: Index,
        span: &Span,
        order: Order,
        after: Option<&Cursor>,
        visit: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.tx.scan(index, span, order, after, visit)
    }
    fn feed(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.tx.feed(after, visit)
    }
    fn state(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.view().state(span, visit)
    }
}

impl Transaction for Change<'_, '_> {
    fn put(&mut self, puts: &[Put<'_>]) -> Result<Vec<RecordNumber>> {
        let keep: Vec<Put<'_>> = puts
            .iter()
            .map(|put| Put {
                remove: &[],
                ..*put
            })
            .collect();
        let mut numbers = self.tx.put(if self.store.bug == Bug::IndexLeftBehind {
            &keep
        } else {
            puts
        })?;
        if self.store.bug == Bug::NumbersSwapped {
            numbers.reverse();
        }
        Ok(numbers)
    }
    fn set_state(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.tx.set_state(key, value)
    }
    fn restored(&mut self, incarnation: Incarnation) -> Result<()> {
        if self.store.bug == Bug::RestoredForgets {
            self.tx.set_state(b"cursor", None)?;
        }
        self.tx.restored(incarnation)
    }
}

impl Store for Buggy {
    fn read(&self, f: &mut dyn FnMut(&dyn Snapshot) -> Result<()>) -> Result<()> {
        match self.bug {
            // Without holding the lock, so that writes come between.
            Bug::TornRead => f(&View {
                at: &Nothing,
                store: self,
                stale: None,
            }),
            _ => self.inner.read(&mut |at| {
                f(&View {
                    at,
                    store: self,
                    stale: None,
                })
            }),
        }
    }

    fn write(&self, f: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        let nth = self.writes.fetch_add(1, Ordering::SeqCst);
        let mut now = Vec::new();
        self.inner.read(&mut |at| {
            at.state(&Span::all(), &mut |key, value| {
                now.push((key.to_vec(), value.to_vec()));
                Ok(ControlFlow::Continue(()))
            })
        })?;
        let stale = std::mem::replace(&mut *self.before.lock().unwrap(), now);
        if matches!(self.bug, Bug::TornRead | Bug::LateEntry) {
            // Gives the readers time to be in the middle of something.
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if self.bug == Bug::LostWrite && nth % 5 == 4 {
            let _ = self.inner.write(&mut |tx| {
                f(tx)?;
                Err(Error::aborted())
            });
            return Ok(());
        }
        let mut failed = None;
        let result = self.inner.write(&mut |tx| {
            match f(&mut Change {
                tx,
                store: self,
                stale: &stale,
            }) {
                Err(error) if self.bug == Bug::NoRollback => failed = Some(error),
                other => return other,
            }
            Ok(())
        });
        failed.map_or(result, Err)
    }
}

/// A snapshot that is never asked: a torn read goes to the store for every call.
struct Nothing;

impl Snapshot for Nothing {
    fn head(&self) -> Result<Position> {
        Ok(Position {
            incarnation: Incarnation([0; 16]),
            number: 0,
            commit: CommitId::ZERO,
        })
    }
    fn commit_id(&self, _: u64) -> Result<Option<CommitId>> {
        Ok(None)
    }
    fn count(&self) -> Result<u64> {
        Ok(0)
    }
    fn get(&self, _: RecordNumber, _: Part) -> Result<Option<Row>> {
        Ok(None)
    }
    fn scan(
        &self,
        _: Index,
        _: &Span,
        _: Order,
        _: Option<&Cursor>,
        _: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        Ok(())
    }
    fn feed(
        &self,
        _: u64,
        _: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        Ok(())
    }
    fn state(
        &self,
        _: &Span,
        _: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        Ok(())
    }
}

struct Planted(Bug);

impl Subject for Planted {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(Buggy {
            inner: Memory::new(Incarnation([7; 16])),
            bug: self.0,
            writes: AtomicU64::new(0),
            before: Mutex::default(),
        })
    }

    fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        match self.0 {
            Bug::Forgetful => self.open(),
            _ => store,
        }
    }
}

/// The clause must panic and name itself.
fn caught(bug: Bug, name: &str, clause: fn(&dyn Subject)) {
    let result = catch_unwind(AssertUnwindSafe(|| clause(&Planted(bug))));
    let Err(panic) = result else {
        panic!("the kit did not catch the bug planted for `{name}`")
    };
    // A panic in a thread of the clause arrives as that of the join; the thread has named the clause.
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    let joined = text.is_empty() || text.contains("Any { .. }") || text.contains("scoped thread");
    assert!(
        joined || text.contains(&format!("clause `{name}`")),
        "the kit does not name the clause `{name}`: {text}"
    );
}

macro_rules! planted {
    ($($test:ident: $bug:ident breaks $clause:ident;)*) => {
        $(
            #[test]
            fn $test() {
                caught(Bug::$bug, stringify!($clause), conformance::$clause);
            }
        )*
    };
}

planted! {
    torn_read: TornRead breaks one_snapshot;
    no_rollback: NoRollback breaks all_or_nothing;
    stale_own_writes: StaleState breaks own_writes;
    stale_state: StaleState breaks serialisable;
    stale_state_under_contention: StaleState breaks reruns;
    lost_write: LostWrite breaks reruns;
    forgetful: Forgetful breaks durable;
    numbers_swapped: NumbersSwapped breaks numbers_arrive;
    index_left_behind: IndexLeftBehind breaks index_is_exact;
    coarse_cursor: CoarseCursor breaks index_is_exact;
    old_entry_stays: OldEntryStays breaks newest_entry_only;
    late_entry: LateEntry breaks feed_order;
    wrong_commit: WrongCommit breaks commit_ids;
    unsorted_state: UnsortedState breaks state_is_sorted;
    restored_forgets: RestoredForgets breaks restored_changes_incarnation;
    material_unasked: MaterialUnasked breaks own_writes;
    model_sees_cursors: CoarseCursor breaks against_model;
    model_sees_indexes: IndexLeftBehind breaks against_model;
    model_sees_rollbacks: NoRollback breaks against_model;
    model_sees_commits: WrongCommit breaks against_model;
}
