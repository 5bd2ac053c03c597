//! A server that speaks just enough of the protocol to be refused.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One that gives the same answer to everybody. Dropping it ends it.
pub(super) struct Fake {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Fake {
    /// Lets everybody in, and answers each statement with what ours asks of a server first.
    pub(super) async fn of_version(number: i32, shown: &str) -> io::Result<Self> {
        let row = facts(number, shown);
        Self::serve(move |mut client| {
            let row = row.clone();
            async move {
                first_word(&mut client).await?;
                client.write_all(&welcome()).await?;
                loop {
                    let mut head = [0; 5];
                    client.read_exact(&mut head).await?;
                    let [tag, length @ ..] = head;
                    let length = u32::from_be_bytes(length).saturating_sub(4);
                    let mut body = vec![0; length as usize];
                    client.read_exact(&mut body).await?;
                    if tag == b'S' {
                        client.write_all(&row).await?;
                    }
                }
            }
        })
        .await
    }

    /// Says this to everybody who says something, and closes.
    pub(super) async fn that_says(words: Vec<u8>) -> io::Result<Self> {
        Self::serve(move |mut client| {
            let words = words.clone();
            async move {
                first_word(&mut client).await?;
                client.write_all(&words).await
            }
        })
        .await
    }

    /// Lets nobody in, with this code and these words.
    pub(super) async fn that_refuses(code: &str, words: &str) -> io::Result<Self> {
        let fields = format!("SFATAL\0VFATAL\0C{code}\0M{words}\0\0");
        Self::that_says(message(b'E', fields.as_bytes())).await
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
        format!("postgres://me@{}/db?sslmode=disable", self.address)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads the start-up message: a length, and the rest.
async fn first_word(client: &mut TcpStream) -> io::Result<()> {
    let length = client.read_u32().await?.saturating_sub(4);
    let mut rest = vec![0; length as usize];
    client.read_exact(&mut rest).await?;
    Ok(())
}

/// Welcome without a password; process 7; ready.
fn welcome() -> Vec<u8> {
    let key = [7_u32.to_be_bytes(), 0_u32.to_be_bytes()].concat();
    [
        message(b'R', &0_u32.to_be_bytes()),
        message(b'S', b"client_encoding\0UTF8\0"),
        message(b'K', &key),
        message(b'Z', b"I"),
    ]
    .concat()
}

/// A row of: process, version as a number and as text, not in recovery, and no addresses.
fn facts(number: i32, shown: &str) -> Vec<u8> {
    const INT4: u32 = 23;
    const TEXT: u32 = 25;
    const BOOL: u32 = 16;
    let number = number.to_be_bytes();
    let columns: [(u32, Option<&[u8]>); 8] = [
        (INT4, Some(&[0, 0, 0, 7])),
        (INT4, Some(&number)),
        (TEXT, Some(shown.as_bytes())),
        (BOOL, Some(&[0])),
        (TEXT, None),
        (INT4, None),
        (TEXT, None),
        (INT4, None),
    ];
    let count = 8_u16.to_be_bytes();
    let (mut names, mut values) = (count.to_vec(), count.to_vec());
    for (kind, value) in columns {
        names.extend(b"c\0\0\0\0\0\0\0");
        names.extend(kind.to_be_bytes());
        names.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 1]);
        let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap());
        values.extend(length.to_be_bytes());
        values.extend(value.unwrap_or_default());
    }
    [
        message(b'1', b""),
        message(b'2', b""),
        message(b't', &[0, 0]),
        message(b'T', &names),
        message(b'D', &values),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ]
    .concat()
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}
