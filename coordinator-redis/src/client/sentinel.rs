//! Sentinels, and whom they name as the primary.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::primary::worst;
use super::{Client, Dial, Value, What};
use crate::endpoint::Host;
use crate::error::ConnectError;
use crate::reply::{Read as _, part};
use crate::trouble::Trouble;

/// How long a Sentinel may take to answer.
const WITHIN: Duration = Duration::from_secs(2);

/// Some Sentinels that watch the same primary.
#[derive(Debug)]
pub(super) struct Sentinels {
    /// What they call it.
    name: String,
    all: Vec<Arc<dyn Client>>,
    /// The number of the latest promotion that was heard of.
    seen: AtomicU64,
}

/// What one says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    /// The number of the promotion that it rests on.
    epoch: u64,
    primary: Host,
}

impl Sentinels {
    pub(super) fn new(name: &str, hosts: &[Host], dial: &dyn Dial) -> Result<Self, ConnectError> {
        let sentinels = hosts.iter().map(|host| dial.client(host, What::Sentinel));
        Ok(Self {
            name: name.to_owned(),
            all: sentinels.collect::<Result<_, _>>()?,
            seen: AtomicU64::new(0),
        })
    }

    /// Whom they name: one that is cut off from the others names a primary that they have replaced, so the latest
    /// promotion counts.
    pub(super) async fn primary(&self, shown: &str) -> Result<Host, ConnectError> {
        let asked = self.all.iter().map(|sentinel| self.ask(sentinel.as_ref()));
        let (mut answers, mut errors) = (Vec::new(), Vec::new());
        for answer in join_all(asked).await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(error) => errors.push(error),
            }
        }
        let seen = self.seen.load(Ordering::Relaxed);
        match latest(&answers, seen, self.all.len()) {
            Some(answer) => {
                self.seen.store(answer.epoch, Ordering::Relaxed);
                Ok(answer.primary.clone())
            }
            None if answers.is_empty() => Err(worst(errors, |text| ConnectError::NoPrimary {
                host: shown.to_owned(),
                source: text.into(),
            })),
            None => Err(ConnectError::NoPrimary {
                host: shown.to_owned(),
                source: "those that answer have not heard of the latest promotion".into(),
            }),
        }
    }

    async fn ask(&self, sentinel: &dyn Client) -> Result<Answer, ConnectError> {
        let asked = async {
            sentinel.reach().await?;
            let words = [
                vec!["SENTINEL", "GET-MASTER-ADDR-BY-NAME", &self.name],
                vec!["SENTINEL", "MASTER", &self.name],
            ];
            let commands = words.map(|words| {
                words
                    .into_iter()
                    .map(|word| Bytes::from(word.to_owned()))
                    .collect()
            });
            let answers = sentinel.pipeline(commands.into()).await;
            answers
                .and_then(|answers| self.read(answers))
                .map_err(|trouble| failed(sentinel, trouble))
        };
        let silent = |_| failed(sentinel, Trouble::unavailable("no answer came in time"));
        match timeout(WITHIN, asked).await.map_err(silent)? {
            Err(ConnectError::Refused { host, source }) => {
                Err(ConnectError::SentinelRefused { host, source })
            }
            answer => answer,
        }
    }

    fn read(&self, answers: Vec<Result<Value, Trouble>>) -> Result<Answer, Trouble> {
        let answers: Vec<Value> =
            answers
                .into_iter()
                .collect::<Result<_, _>>()
                .map_err(|trouble| match trouble {
                    Trouble::Rejected(error) if error.to_string().contains("No such master") => {
                        self.unknown()
                    }
                    other => other,
                })?;
        let at = part(&answers, 0)?;
        if *at == Value::Nil {
            return Err(self.unknown());
        }
        let at = at.list()?;
        let (name, port) = (part(at, 0)?.text()?, part(at, 1)?.number()?);
        let port = u16::try_from(port).map_err(|_| Trouble::unreadable("a port"))?;
        let fields = part(&answers, 1)?.list()?;
        let epoch = fields.chunks_exact(2).find_map(|pair| match pair {
            [name, value] if name.text().is_ok_and(|name| name == "config-epoch") => {
                value.number().ok()
            }
            _ => None,
        });
        Ok(Answer {
            epoch: epoch.unwrap_or_default(),
            primary: Host::Tcp(name.to_owned(), port),
        })
    }

    fn unknown(&self) -> Trouble {
        Trouble::unavailable(format!("no primary is called `{}` there", self.name))
    }
}

fn failed(sentinel: &dyn Client, trouble: Trouble) -> ConnectError {
    let host = sentinel.shown();
    match trouble {
        Trouble::Rejected(error) if error.to_string().contains("unknown command") => {
            ConnectError::OtherKind {
                host,
                found: "no Sentinel",
                wanted: "redis://",
            }
        }
        other => crate::hub::unusable(&host, other),
    }
}

/// The answer that counts. Promotions are numbered anew when Sentinels are set up anew: who heard of a later one believes
/// that of most of them alone.
fn latest(answers: &[Answer], seen: u64, of: usize) -> Option<&Answer> {
    let latest = answers.iter().max_by_key(|answer| answer.epoch)?;
    (latest.epoch >= seen || answers.len() * 2 > of).then_some(latest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(epoch: u64) -> Answer {
        let primary = Host::Tcp("h".to_owned(), 1);
        Answer { epoch, primary }
    }

    #[test]
    fn the_latest_promotion_counts() {
        let answers = [answer(3), answer(5), answer(4)];
        assert_eq!(latest(&answers, 0, 3), Some(&answer(5)));
        assert_eq!(latest(&answers[..1], 3, 3), Some(&answer(3)));
        assert_eq!(latest(&[], 0, 3), None);
    }

    #[test]
    fn one_that_is_cut_off_is_not_believed_and_most_of_them_are() {
        let answers = [answer(3), answer(3)];
        assert_eq!(latest(&answers[..1], 4, 3), None);
        assert_eq!(latest(&answers, 4, 3), Some(&answer(3)));
    }
}
