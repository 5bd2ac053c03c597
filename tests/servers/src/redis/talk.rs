//! A connection that runs commands, one after the other: enough to set servers up and to look at
//! them, without a client's crates.

use std::io::{BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::reply::Reply;
use crate::error::Error;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const PORT: u16 = 6379;

/// A connection to a server.
#[derive(Debug)]
pub struct Talk {
    stream: BufReader<TcpStream>,
}

impl Talk {
    /// Connects to `redis://user:password@host:port/database`, of which all but the host may be
    /// missing. What is behind a `?` is for other clients.
    pub fn to(url: &str) -> Result<Self, Error> {
        let place = Place::read(url)?;
        let doing = || format!("connect to {}:{}", place.host, place.port);
        let address = (place.host, place.port).to_socket_addrs();
        let address = address.map_err(Error::io(doing()))?.next();
        let address = address.ok_or_else(|| Error::failed(doing(), "no address"))?;
        let stream = TcpStream::connect_timeout(&address, PATIENCE);
        let stream = stream.map_err(Error::io(doing()))?;
        let bounded = stream.set_read_timeout(Some(PATIENCE));
        bounded.map_err(Error::io(doing()))?;
        let mut talk = Self {
            stream: BufReader::new(stream),
        };
        match (place.user, place.password) {
            (_, "") => (),
            ("", password) => drop(talk.ask(&["AUTH", password])?),
            (user, password) => drop(talk.ask(&["AUTH", user, password])?),
        }
        if !place.database.is_empty() {
            talk.ask(&["SELECT", place.database])?;
        }
        Ok(talk)
    }

    /// Runs one command, which must succeed.
    pub fn ask(&mut self, command: &[&str]) -> Result<Reply, Error> {
        let doing = || format!("run {}", command.first().copied().unwrap_or_default());
        match self.try_ask(command)? {
            Reply::Error(said) => Err(Error::failed(doing(), said)),
            reply => Ok(reply),
        }
    }

    /// Runs one command, whose refusal is an answer as well.
    pub fn try_ask(&mut self, command: &[&str]) -> Result<Reply, Error> {
        let doing = || format!("run {}", command.first().copied().unwrap_or_default());
        let sent = self.stream.get_mut().write_all(&request(command));
        sent.map_err(Error::io(doing()))?;
        Reply::read(&mut self.stream).map_err(Error::io(doing()))
    }

    /// What `INFO` says of something.
    pub fn info(&mut self, section: &str, name: &str) -> Result<Option<String>, Error> {
        let text = self.ask(&["INFO", section])?.text();
        let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
        let found = pairs.find(|(found, _)| *found == name);
        Ok(found.map(|(_, value)| value.to_owned()))
    }
}

fn request(command: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    bytes
}

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    user: &'a str,
    password: &'a str,
    host: &'a str,
    port: u16,
    database: &'a str,
}

impl<'a> Place<'a> {
    fn read(url: &'a str) -> Result<Self, Error> {
        let unread = || Error::failed("read the URL of a Redis server", "redis://host:port is one");
        let rest = url.strip_prefix("redis://").ok_or_else(unread)?;
        let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (who, place) = place.rsplit_once('@').unwrap_or(("", place));
        let (user, password) = who.split_once(':').unwrap_or((who, ""));
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| unread())?),
            None => (place, PORT),
        };
        Ok(Self {
            user,
            password,
            host,
            port,
            database,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_who_comes_where() {
        let whole = Place::read("redis://u:p@h:1/2?protocol=resp3").unwrap();
        let expected = Place {
            user: "u",
            password: "p",
            host: "h",
            port: 1,
            database: "2",
        };
        assert_eq!(whole, expected);
        let short = Place::read("redis://:p@h").unwrap();
        assert_eq!((short.user, short.password), ("", "p"));
        assert_eq!((short.host, short.port), ("h", 6379));
        assert!(Place::read("postgres://h").is_err());
        assert!(Place::read("redis://h:port").is_err());
    }

    #[test]
    fn a_command_is_sent_with_the_length_of_each_word_in_bytes() {
        assert_eq!(
            request(&["GET", "é"]),
            "*2\r\n$3\r\nGET\r\n$2\r\né\r\n".as_bytes()
        );
    }
}
