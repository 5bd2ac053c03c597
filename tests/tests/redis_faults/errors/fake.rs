//! A server that speaks just enough of the protocol to be refused.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One that gives the same answers to everybody. Dropping it ends it.
pub(super) struct Fake {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Fake {
    /// Lets everybody in, and says that it is of this version whatever it is asked for that needs one.
    pub(super) async fn of_version(version: &'static str) -> io::Result<Self> {
        Self::serve(move |client| async move {
            let mut client = BufReader::new(client);
            loop {
                let words = request(&mut client).await?;
                let answer = answer(&words, version);
                client.get_mut().write_all(answer.as_bytes()).await?;
            }
        })
        .await
    }

    /// Says this to each request, and stays.
    pub(super) async fn that_answers(words: &'static str) -> io::Result<Self> {
        Self::serve(move |client| async move {
            let mut client = BufReader::new(client);
            loop {
                request(&mut client).await?;
                client.get_mut().write_all(words.as_bytes()).await?;
            }
        })
        .await
    }

    /// Says this to everybody who says something, and closes.
    pub(super) async fn that_says(words: Vec<u8>) -> io::Result<Self> {
        Self::serve(move |mut client| {
            let words = words.clone();
            async move {
                client.read_u8().await?;
                client.write_all(&words).await
            }
        })
        .await
    }

    async fn serve<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> io::Result<Self>
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client));
            }
        });
        Ok(Self { address, task })
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one request: an array of byte strings, or a line of words.
async fn request(client: &mut BufReader<TcpStream>) -> io::Result<Vec<String>> {
    if client.fill_buf().await?.first() != Some(&b'*') {
        let mut line = String::new();
        client.read_line(&mut line).await?;
        let words = line.split_whitespace().map(str::to_uppercase);
        return Ok(words.collect());
    }
    let count = length(client).await?;
    let mut words = Vec::new();
    for _ in 0..count {
        let length = length(client).await?;
        let mut bytes = vec![0; length + 2];
        client.read_exact(&mut bytes).await?;
        bytes.truncate(length);
        words.push(String::from_utf8_lossy(&bytes).to_uppercase());
    }
    Ok(words)
}

/// `*3` or `$3`.
async fn length(client: &mut BufReader<TcpStream>) -> io::Result<usize> {
    let mut line = String::new();
    client.read_line(&mut line).await?;
    let digits = line.trim().trim_start_matches(['*', '$']);
    digits
        .parse()
        .map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

fn answer(words: &[String], version: &str) -> String {
    let info = format!(
        "# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\nrun_id:{}\r\n\
         # Replication\r\nrole:master\r\nconnected_slaves:0\r\n",
        "a".repeat(40)
    );
    match words.first().map_or("", String::as_str) {
        "HELLO" => format!(
            "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n${}\r\n{version}\r\n\
             $5\r\nproto\r\n:3\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n\
             $4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
            version.len()
        ),
        "INFO" => format!("${}\r\n{info}\r\n", info.len()),
        "ROLE" => "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".to_owned(),
        "PING" => "+PONG\r\n".to_owned(),
        "CLIENT" | "SELECT" | "AUTH" => "+OK\r\n".to_owned(),
        other => format!("-ERR unknown command '{other}'\r\n"),
    }
}
