//! A thousand TLS connections at once, a hundred of them hostile: the others see no error, and the server's memory does not grow.
//! `KEYFERRY_CROWD_SECONDS` says for how long; a minute proves more than the few seconds that it takes by default.

use keyferry_examples::host::{self, Files};
use keyferry_examples::{Result, pki::Pki, runtime};
use keyferry_kmip::spec::{AttributeValue, CryptographicAlgorithm, QueryFunction};
use keyferry_kmip::*;
use keyferry_net::{ClientConfig, Connection, Connector};
use keyferry_s2s::Policy;
use keyferry_ttlv::{Extra, Frame, Version};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const HONEST: usize = 900;
const HOSTILE: usize = 100;
const FOLDER: &str = "KEYFERRY_CROWD_FOLDER";

/// The other process: a server with the usual limits, until its standard input ends. It answers each line with its counters.
#[test]
fn a_server_for_the_crowd() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    if std::env::var_os("KEYFERRY_LOG").is_some() {
        keyferry_examples::log();
    }
    let runtime = runtime().unwrap();
    let credentials = Pki::open(&folder)
        .unwrap()
        .credentials("server", &[])
        .unwrap();
    let files = Files::beside(folder.join("objects.redb"));
    let host = runtime
        .block_on(host::start(
            "crowd",
            &files,
            "127.0.0.1:0",
            &credentials,
            Policy::closed(),
        ))
        .unwrap();
    println!("\n{}", host.handle.local_addr());
    let counters = host.handle.counters();
    for line in std::io::stdin().lines() {
        line.unwrap();
        println!(
            "{} {} {} {}",
            counters.open(),
            counters.accepted(),
            counters.refused(),
            counters.requests()
        );
    }
    runtime.block_on(host.handle.shutdown());
    println!("stopped");
}

/// The server in its process.
struct Serving {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    address: String,
}

impl Serving {
    fn start(folder: &Path) -> Serving {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crowd::a_server_for_the_crowd", "--nocapture"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, mut output) = (
            process.stdin.take(),
            BufReader::new(process.stdout.take().unwrap()),
        );
        let mut address = String::new();
        while !address.starts_with("127.0.0.1:") {
            address.clear();
            assert!(
                output.read_line(&mut address).unwrap() > 0,
                "the server did not start"
            );
        }
        Serving {
            process,
            input,
            output,
            address: address.trim().to_owned(),
        }
    }

    /// Connections open, accepted and refused, and requests.
    fn counters(&mut self) -> [u64; 4] {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
        // The test harness has something to say there too, after a minute.
        loop {
            let mut line = String::new();
            assert!(
                self.output.read_line(&mut line).unwrap() > 0,
                "the server is gone"
            );
            let numbers: Option<Vec<u64>> = line
                .split_whitespace()
                .map(|number| number.parse().ok())
                .collect();
            if let Some(Ok(numbers)) = numbers.map(TryInto::try_into) {
                return numbers;
            }
        }
    }

    /// The memory that it has of its own, in MiB, where the system tells.
    fn memory(&self) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))?;
        line.split_whitespace()
            .next()?
            .parse::<f64>()
            .ok()
            .map(|kib| kib / 1024.0)
    }

    fn stop(mut self) {
        drop(self.input.take());
        let mut rest = String::new();
        while self.output.read_line(&mut rest).unwrap() > 0 {}
        assert!(rest.contains("stopped"), "{rest}");
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it has ended, unless the test failed
    }
}

/// Sends items and returns their answers, all of which went well.
async fn ask(connection: &mut Connection, items: Vec<RequestItem>) -> Result<Vec<ResponseItem>> {
    let count = items.len();
    let answer = connection
        .call(&RequestMessage::new(Version::V2_1, items).to_frame()?)
        .await?;
    let answer = ResponseMessage::from_frame(&answer)?;
    match answer.batch.iter().find(|item| !item.is_success()) {
        Some(failed) => Err(format!("failed: {:?}", failed.result_message).into()),
        None if answer.batch.len() == count => Ok(answer.batch),
        None => Err("too few answers".into()),
    }
}

/// Asks for one thing.
async fn one<Q: Payload, A: Payload>(connection: &mut Connection, payload: &Q) -> Result<A> {
    let cx = context(Version::V2_1);
    let answers = ask(connection, vec![RequestItem::new(payload, cx)?]).await?;
    Ok(answers.first().ok_or("no answer")?.payload(cx)?)
}

fn query() -> QueryRequest {
    QueryRequest {
        query_functions: vec![QueryFunction::QUERY_OPERATIONS],
        ..Default::default()
    }
}

/// A key from its creation to its end, found by its name, and some other questions.
async fn life(connection: &mut Connection, name: &str) -> Result<u64> {
    let cx = context(Version::V2_1);
    let mut create = CreateRequest::symmetric_key(CryptographicAlgorithm::AES, 256);
    create
        .attributes
        .attributes
        .push(AttributeValue::Name(Name::text(name)));
    let made: CreateResponse = one(connection, &create).await?;
    let get = GetRequest::of(made.unique_identifier.clone());
    let first: GetResponse = one(connection, &get).await?;
    let found: LocateResponse = one(connection, &LocateRequest::by_name(name)).await?;
    if found.unique_identifiers.iter().count() != 1 {
        return Err(format!(
            "{name} was found {} times",
            found.unique_identifiers.iter().count()
        )
        .into());
    }
    let batch = vec![
        RequestItem::new(&get, cx)?,
        RequestItem::new(
            &GetAttributesRequest::of(made.unique_identifier.clone()),
            cx,
        )?,
        RequestItem::new(&query(), cx)?,
    ];
    let answers = ask(connection, batch).await?;
    let again: GetResponse = answers.first().ok_or("no answer")?.payload(cx)?;
    if again != first {
        return Err(format!("{name} is another key than before").into());
    }
    let destroy = DestroyRequest {
        unique_identifier: Some(made.unique_identifier),
        extra: Extra::NONE,
    };
    let _: DestroyResponse = one(connection, &destroy).await?;
    Ok(5)
}

/// Works until the end, on a new connection now and then.
async fn honest(
    client: usize,
    connector: Connector,
    all_in: Arc<Barrier>,
    over: Arc<AtomicBool>,
) -> Result<u64> {
    let mut connection = connector.connect().await?;
    let mut requests = 0;
    // Nobody has been accepted before the server has answered.
    let _: QueryResponse = one(&mut connection, &query()).await?;
    all_in.wait().await;
    all_in.wait().await;
    let mut round = 0;
    while !over.load(Ordering::Relaxed) {
        requests += life(&mut connection, &format!("client {client}, key {round}")).await?;
        round += 1;
        if round % 8 == client % 8 {
            connection.close().await;
            connection = connector.connect().await?;
        }
    }
    connection.close().await;
    Ok(requests)
}

/// Does harm of the kind that the number says, again and again.
async fn hostile(kind: usize, connector: Connector, address: String, harm: Arc<AtomicU64>) {
    let request: Frame = RequestMessage::new(Version::V2_1, Vec::<RequestItem>::new())
        .to_frame()
        .unwrap();
    loop {
        harm.fetch_add(1, Ordering::Relaxed);
        let _ = harm_once(kind, &connector, &address, &request).await; // whatever the server made of it
        sleep(Duration::from_millis(50)).await;
    }
}

async fn harm_once(kind: usize, connector: &Connector, address: &str, request: &Frame) -> Result {
    const CLIENT_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let patience = Duration::from_secs(5);
    match kind % 8 {
        // Garbage instead of TLS.
        0 => {
            let mut plain = TcpStream::connect(address).await?;
            plain.write_all(&[0x5a; 2000]).await?;
            timeout(patience, plain.read_to_end(&mut Vec::new())).await??;
        }
        // Silence in mid-handshake.
        1 => {
            let mut plain = TcpStream::connect(address).await?;
            plain.write_all(CLIENT_HELLO).await?;
            sleep(patience).await;
        }
        // Gone in mid-handshake.
        2 => {
            let mut plain = TcpStream::connect(address).await?;
            plain.write_all(CLIENT_HELLO).await?;
        }
        // Garbage inside TLS.
        3 => {
            let mut stream = connector.connect().await?.into_stream();
            stream.write_all(&[0x5a; 2000]).await?;
            timeout(patience, stream.read_to_end(&mut Vec::new())).await??;
        }
        // Half a message, and silence.
        4 => {
            let mut stream = connector.connect().await?.into_stream();
            stream
                .write_all(request.get(..20).unwrap_or_default())
                .await?;
            sleep(patience).await;
        }
        // A message byte by byte.
        5 => {
            let mut stream = connector.connect().await?.into_stream();
            for byte in request.iter() {
                stream.write_all(&[*byte]).await?;
                stream.flush().await?;
                sleep(Duration::from_millis(100)).await;
            }
        }
        // A message that claims to be huge, and as much of it as is taken.
        6 => {
            let mut stream = connector.connect().await?.into_stream();
            stream.write_all(&[0x42, 0, 0x78, 1, 0, 0xf0, 0, 0]).await?;
            for _ in 0..64 {
                stream.write_all(&[0; 16 * 1024]).await?;
            }
        }
        // Requests whose answers nobody reads.
        _ => {
            let mut stream = connector.connect().await?.into_stream();
            let flood = async {
                loop {
                    stream.write_all(request).await?;
                }
            };
            timeout(patience, flood)
                .await
                .unwrap_or(Ok::<(), std::io::Error>(()))?;
        }
    }
    Ok(())
}

/// How many files this process may have open, where the system tells.
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[test]
fn a_thousand_connections_with_hostile_ones_among_them() {
    if let Some(limit) = open_files().filter(|limit| *limit < 2 * (HONEST + HOSTILE)) {
        crate::skipped(format_args!(
            "a thousand connections need more than {limit} open files: ulimit -n 4096"
        ));
        return;
    }
    let seconds = std::env::var("KEYFERRY_CROWD_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(6);
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::open(folder.path()).unwrap();
    let credentials = pki.credentials("client", &[]).unwrap();
    pki.credentials("server", &[]).unwrap();
    let mut serving = Serving::start(folder.path());
    let address = serving.address.clone();
    let mut config = ClientConfig::new(&credentials, "localhost").unwrap();
    // Time is nobody's failure here: a slow machine is slow for all.
    (config.connect_time, config.answer_time) =
        (Duration::from_secs(600), Duration::from_secs(600));
    let connector = Connector::new(address.clone(), config);
    runtime().unwrap().block_on(async {
        let (all_in, over, harm) = (Arc::new(Barrier::new(HONEST + 1)), Arc::new(AtomicBool::new(false)), Arc::default());
        let (mut crowd, mut mob) = (JoinSet::new(), JoinSet::new());
        for kind in 0..HOSTILE {
            mob.spawn(hostile(kind, connector.clone(), address.clone(), Arc::clone(&harm)));
        }
        for client in 0..HONEST {
            let (connector, all_in, over) = (connector.clone(), all_in.clone(), over.clone());
            crowd
                .spawn(async move { honest(client, connector, all_in, over).await.map_err(|e| format!("client {client}: {e}")) });
        }
        tokio::select! {
            _ = all_in.wait() => {}
            Some(Ok(Err(error))) = crowd.join_next() => panic!("{error}"),
        }
        let [open, ..] = serving.counters();
        assert!(open >= HONEST as u64, "{open} connections");
        all_in.wait().await;
        // By then every connection has done something, and buffers have the size that they will have.
        let (warm, rest) = (seconds / 3, seconds - seconds / 3);
        sleep(Duration::from_secs(warm)).await;
        let before = serving.memory();
        let mut most = before;
        for second in 0..rest {
            sleep(Duration::from_secs(1)).await;
            let now = serving.memory();
            most = most.zip(now).map(|(most, now)| f64::max(most, now));
            if second % 10 == 9 {
                println!("after {} s: {:.0} MiB", warm + second + 1, now.unwrap_or_default());
            }
        }
        let [open, accepted, refused, requests] = serving.counters();
        over.store(true, Ordering::Relaxed);
        let mut done = 0;
        while let Some(ended) = crowd.join_next().await {
            done += ended.unwrap().unwrap_or_else(|error| panic!("{error}"));
        }
        let harm = harm.load(Ordering::Relaxed);
        println!(
            "{seconds} s: {done} honest requests, {harm} hostile connections; the server: {open} open, {accepted} accepted, \
             {refused} refused, {requests} requests; memory {:.0} MiB after {warm} s, then at most {:.0} MiB",
            before.unwrap_or_default(),
            most.unwrap_or_default()
        );
        assert!(harm > HOSTILE as u64 && refused > 0 && done > HONEST as u64);
        // Objects and what indexes them are on disk; what remains is the noise of an allocator.
        if let (Some(before), Some(most)) = (before, most) {
            assert!(most < before * 1.25 + 32.0, "memory grew from {before:.0} to {most:.0} MiB");
        }
        mob.shutdown().await;
    });
    serving.stop();
}
