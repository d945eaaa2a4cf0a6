//! What the comparison makes of a relation's account.

use super::*;

impl Replica {
    /// Has an answer note that a copy comes by the relation, or does so no more, which changes nothing else of it.
    fn move_copy(&mut self, at: usize, comes: bool) {
        let id = self.copies[at].id.clone();
        note_kept(&self.store, ("c", "r"), &id, comes);
        let found = self
            .store
            .view::<_, keyferry_store::Error>(|s| s.by_object_id(&id));
        self.moved.push(found.unwrap().unwrap().0);
        self.count_move();
    }

    /// Counts a move of the account, as each answer does that moves anything.
    fn count_move(&mut self) {
        let session = self.follow.session();
        self.in_session(|follow, cx| {
            let moved = follow.change_upstream(cx, session, |upstream| {
                upstream.account = upstream.account.map(|count| count + 1);
            });
            follow.upstream = Some(moved.unwrap());
        });
    }
}

#[test]
fn what_moves_in_the_account_is_compared_at_once() {
    let mut replica = Replica::with(4);
    replica.hear(&saying(&leaves(&replica.copies), None));
    replica.move_copy(1, false);
    replica.hear(&saying(
        &leaves(&[0, 2, 3].map(|at| replica.copies[at].clone())),
        None,
    ));
    assert!(!replica.is_searching());
    replica.move_copy(1, true);
    replica.hear(&saying(&leaves(&replica.copies), None));
    assert!(!replica.is_searching());
    // Another answer has moved something, which was not compared: all is looked at again.
    replica.move_copy(2, false);
    replica.moved.clear();
    replica.move_copy(3, false);
    replica.hear(&saying(&leaves(&replica.copies[..2]), None));
    assert!(!replica.is_searching());
    // And so where this answer moves nothing.
    replica.move_copy(3, true);
    replica.moved.clear();
    replica.hear(&saying(
        &leaves(&[0, 1, 3].map(|at| replica.copies[at].clone())),
        None,
    ));
    assert!(!replica.is_searching());
}

#[test]
fn a_relation_of_an_earlier_build_is_read_from_the_beginning() {
    let mut replica = Replica::with(1);
    let begun = |replica: &mut Replica, account| {
        let session = replica.follow.session();
        replica.in_session(|follow, cx| {
            let stored = follow.change_upstream(cx, session, |upstream| {
                upstream.account = account;
                upstream.cursor.number = 7;
            });
            stored.unwrap();
            follow.begin(cx, 0).unwrap();
        });
        let upstream = replica.upstream();
        (upstream.cursor.number, upstream.checking, upstream.account)
    };
    assert_eq!(begun(&mut replica, Some(3)), (7, None, Some(3)));
    assert_eq!(begun(&mut replica, None), (0, Some(0), Some(0)));
}

impl Replica {
    /// Has the next answer change a copy, and tell of it by another stamp and this sum: whoever reads the feed does not believe that.
    fn write(&mut self, at: usize, sum: CopySum) {
        let id = self.copies[at].id.clone();
        let behind = self.store.view(|snapshot| snapshot.head()).unwrap().number;
        let number = self.touch(at);
        let mut stamp = self.copies[at].stamp.clone();
        stamp.sequence += 99;
        self.told.insert(id.clone(), (stamp, sum));
        let records = vec![(number, id.encoded().unwrap())];
        self.written = Some(Written { behind, records });
    }

    /// Writes a copy once more, as it is.
    fn touch(&self, at: usize) -> RecordNumber {
        let id = &self.copies[at].id;
        let written = self
            .store
            .transact::<_, keyferry_store::Error>(|transaction| {
                let (number, held) = transaction.by_object_id(id)?.unwrap();
                let effects = Effects::change(Some((number, held.clone())), held, Material::Keep);
                effects.apply(transaction)?;
                Ok(number)
            });
        written.unwrap()
    }

    fn told_leaves(&self, at: usize, sum: CopySum) -> Vec<Leaf> {
        let mut told = leaves(&self.copies);
        told[at] = key().leaf(&self.copies[at].id, sum);
        told
    }
}

#[test]
fn what_was_just_written_is_not_read_again_where_nothing_else_was() {
    let other = CopySum::of(&a_copy().stamp, b"another digest");
    let begun = || {
        let mut replica = Replica::with(3);
        replica.hear(&saying(&leaves(&replica.copies), None));
        assert!(!replica.is_searching());
        replica
    };
    // Taken as told.
    let mut replica = begun();
    replica.write(1, other);
    let told = saying(&replica.told_leaves(1, other), None);
    replica.hear(&told);
    assert!(!replica.is_searching());
    replica.hear(&saying(&leaves(&replica.copies), None));
    assert!(replica.is_searching());
    // Somebody else has written, too, or the table was not where the answer began: the feed is read.
    let mut replica = begun();
    replica.write(1, other);
    replica.touch(2);
    replica.hear(&saying(&leaves(&replica.copies), None));
    assert!(!replica.is_searching());
    let mut replica = begun();
    replica.touch(2);
    replica.write(1, other);
    replica.hear(&saying(&leaves(&replica.copies), None));
    assert!(!replica.is_searching());
    // What is not told, and what is listed, is looked at.
    let mut replica = begun();
    replica.write(1, other);
    replica.told = Told::new();
    replica.hear(&saying(&leaves(&replica.copies), None));
    assert!(!replica.is_searching());
}

fn a_copy() -> Record {
    Replica::with(1).copies.remove(0)
}
