//! How fast the store takes records, and how much memory it uses.
//!
//! `cargo test --release -p keyferry-store-redb --test measure -- --ignored --nocapture`
//! with `KEYFERRY_RECORDS`, `KEYFERRY_BATCH` and `KEYFERRY_CACHE` (MiB) to vary it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use keyferry_store::{Incarnation, Index, IndexKey, MaterialChange, Order, Part, Put, Span, Store};
use keyferry_store_redb::{Options, RedbStore};
use std::ops::ControlFlow;
use std::time::Instant;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The highest memory use of this process so far, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// splitmix64.
fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Ten keys as a record of a key server has them: three scattered ones, one rising name, three dates, three of few values.
fn keys(n: u64) -> Vec<IndexKey> {
    let key = |index: u8, key: Vec<u8>| IndexKey { index: Index(index), key: key.into() };
    let (a, b) = (scatter(n), scatter(n ^ 0xABCD_EF01));
    let date = (0x8000_0000_6000_0000 + n / 100).to_be_bytes().to_vec();
    vec![
        key(1, format!("{a:016x}-{b:016x}").into_bytes()),
        key(2, [&a.to_be_bytes()[..], &b.to_be_bytes(), b"origin"].concat()),
        key(3, format!("key-{n:012}").into_bytes()),
        key(4, format!("group {}", n % 50).into_bytes()),
        key(5, vec![0, 0, 0, 2]),
        key(6, vec![0, 0, 0, (n % 3) as u8]),
        key(7, date.clone()),
        key(8, date.clone()),
        key(9, date),
        key(10, format!("x-serial\0{b:020}").into_bytes()),
    ]
}

#[test]
#[ignore = "a measurement: run it with --release"]
fn insert() {
    let (total, batch) = (setting("KEYFERRY_RECORDS", 100_000), setting("KEYFERRY_BATCH", 5000));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let mut options = Options::new(Incarnation([1; 16]));
    options.cache_bytes = setting("KEYFERRY_CACHE", (options.cache_bytes >> 20) as u64) as usize * 1024 * 1024;
    let store = RedbStore::open(&path, options).unwrap();
    let (attributes, material) = ([b'a'; 600], [b'm'; 200]);
    let base = peak();
    let mut writing = std::time::Duration::ZERO;
    let mut done = 0;
    while done < total {
        let numbers = done..(done + batch).min(total);
        let ids: Vec<[u8; 32]> = numbers.clone().map(|n| [n as u8; 32]).collect();
        let keys: Vec<Vec<IndexKey>> = numbers.clone().map(keys).collect();
        let puts: Vec<Put<'_>> = ids
            .iter()
            .zip(&keys)
            .map(|(id, insert)| Put {
                number: None,
                id,
                attributes: &attributes,
                material: MaterialChange::Set(&material),
                remove: &[],
                insert,
                entry: id,
            })
            .collect();
        let start = Instant::now();
        store.write(&mut |tx| tx.put(&puts).map(|_| ())).unwrap();
        writing += start.elapsed();
        done = numbers.end;
        if done % (total / 10).max(1) < batch {
            println!("{done:>9} records, {:>7.0} objects/s so far, peak {} MiB", done as f64 / writing.as_secs_f64(), peak());
        }
    }
    let size = std::fs::metadata(&path).unwrap().len();
    println!("{total} records, {batch} a write: {:.0} objects/s", total as f64 / writing.as_secs_f64());
    println!("memory before {base} MiB, peak {} MiB; file {} MiB", peak(), size >> 20);

    let start = Instant::now();
    drop(store);
    let store = RedbStore::open(&path, options).unwrap();
    println!("closing and opening: {:?}", start.elapsed());
    let start = Instant::now();
    let mut met = 0;
    let all = |order| {
        store.read(&mut |at| {
            at.scan(Index(1), &Span::all(), order, None, &mut |_, number| {
                met += 1;
                at.get(number, Part::Whole)?;
                Ok(if met % 20_000 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })
        })
    };
    [Order::Ascending].map(all).into_iter().for_each(|result| result.unwrap());
    println!("{met} records in the order of a scattered key: {:?} each; peak {} MiB", start.elapsed() / met, peak());
}
