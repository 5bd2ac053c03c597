//! A client whose refusals say which right is missing, and how it is given.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Channels, Chosen, Client, Listener, PubSub, Told, Value};
use crate::error::ConnectError;
use crate::script::Script;
use crate::trouble::Trouble;

/// Any client, with advice.
#[derive(Debug)]
pub(crate) struct Advised {
    client: Arc<dyn Client>,
    advice: Arc<str>,
}

impl Advised {
    /// The same client. `advice`: the command that gives all rights that are needed.
    pub(crate) fn new(client: Arc<dyn Client>, advice: Arc<str>) -> Self {
        Self { client, advice }
    }

    fn advise(&self, trouble: Trouble) -> Trouble {
        trouble.advised(None, &self.advice)
    }
}

#[async_trait]
impl Client for Advised {
    fn shown(&self) -> String {
        self.client.shown()
    }

    async fn reach(&self) -> Result<(), ConnectError> {
        self.client.reach().await
    }

    async fn eval(
        &self,
        script: &'static Script,
        keys: Vec<Bytes>,
        args: Vec<Bytes>,
    ) -> Result<Value, Trouble> {
        let answer = self.client.eval(script, keys, args).await;
        answer.map_err(|trouble| self.advise(trouble))
    }

    async fn publish(&self, how: PubSub, batch: Vec<(Bytes, Bytes)>) -> Vec<Result<(), Trouble>> {
        let sent = self.client.publish(how, batch).await.into_iter();
        let sent = sent.map(|sent| sent.map_err(|trouble| self.advise(trouble)));
        sent.collect()
    }

    async fn pipeline(
        &self,
        commands: Vec<Vec<Bytes>>,
    ) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        let answers = self.client.pipeline(commands).await;
        let answers = answers.map_err(|trouble| self.advise(trouble))?.into_iter();
        let answers = answers.map(|answer| answer.map_err(|trouble| self.advise(trouble)));
        Ok(answers.collect())
    }

    async fn everywhere(&self, commands: Vec<Vec<Bytes>>) -> Result<Vec<Told>, Trouble> {
        let told = self.client.everywhere(commands).await;
        let mut told = told.map_err(|trouble| self.advise(trouble))?;
        for Told { answers, .. } in &mut told {
            let advised = std::mem::take(answers).into_iter();
            answers.extend(advised.map(|answer| answer.map_err(|trouble| self.advise(trouble))));
        }
        Ok(told)
    }

    fn is_cluster(&self) -> bool {
        self.client.is_cluster()
    }

    async fn listen(&self, how: Chosen) -> Result<Listener, Trouble> {
        let Listener { channels, heard } = match self.client.listen(how).await {
            Ok(listener) => listener,
            Err(trouble) => return Err(self.advise(trouble)),
        };
        let advice = self.advice.clone();
        let channels = Arc::new(AdvisedChannels { channels, advice });
        Ok(Listener::new(channels, heard))
    }
}

#[derive(Debug)]
struct AdvisedChannels {
    channels: Arc<dyn Channels>,
    advice: Arc<str>,
}

#[async_trait]
impl Channels for AdvisedChannels {
    async fn subscribe(&self, channel: Bytes) -> Result<(), Trouble> {
        let heard = self.channels.subscribe(channel.clone()).await;
        heard.map_err(|trouble| trouble.advised(Some(&channel), &self.advice))
    }

    async fn unsubscribe(&self, channel: Bytes) -> Result<(), Trouble> {
        let silent = self.channels.unsubscribe(channel.clone()).await;
        silent.map_err(|trouble| trouble.advised(Some(&channel), &self.advice))
    }
}
