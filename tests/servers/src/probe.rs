//! Does a server answer?

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server may take to say a word.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a client says first: its length, the protocol's version, and who is there.
const HELLO: &[u8] = b"\x00\x00\x00\x29\x00\x03\x00\x00user\0postgres\0database\0postgres\0\0";

/// Whether a Postgres server, or a pooler, takes clients there: it asks for a password, and does not
/// say that it is starting or stopping.
pub fn accepts(address: SocketAddr) -> bool {
    matches!(first_word(address), Ok(b'R'))
}

fn first_word(address: SocketAddr) -> io::Result<u8> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(HELLO)?;
    let mut word = [0];
    stream.read_exact(&mut word)?;
    Ok(word[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn server_that_says(word: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut hello = [0; HELLO.len()];
            client.read_exact(&mut hello).unwrap();
            client.write_all(word).unwrap();
        });
        address
    }

    #[test]
    fn the_length_that_is_said_is_that_of_what_is_said() {
        let said = u32::from_be_bytes(HELLO[..4].try_into().unwrap());
        assert_eq!(usize::try_from(said).unwrap(), HELLO.len());
    }

    #[test]
    fn who_asks_for_a_password_takes_clients_and_who_complains_does_not() {
        assert!(accepts(server_that_says(b"R\0\0\0\x08\0\0\0\x03")));
        assert!(!accepts(server_that_says(b"E\0\0\0\x08SFATAL")));
        assert!(!accepts(server_that_says(b"")));
    }
}
