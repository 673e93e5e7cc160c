//! What is asked for, and the source that answers it: one for each question, as many as fit.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certbind_client::{AccessToken, Credential, CredentialFiles, Error, Follower, Settings, SetupFault, TokenSource};
use certbind_proto::entropy::Entropy;
use certbind_proto::resource::Resource;
use certbind_proto::scope::Scope;
use certbind_proto::time::{Clock, Timestamp};

/// The most questions at a time. Each has a token that is kept, and files that are looked at.
pub const MOST: usize = 64;
/// A question that nobody has put for so long makes room for another one.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// One that has no token does so sooner: mostly there is none for it.
const IN_VAIN: Duration = Duration::from_secs(10);
/// A token is asked for before its time, because somebody wants one that lasts longer, once in this time and no more.
const EARLY: Duration = Duration::from_secs(10);

/// What a token is for. Another question has another token (RFC 8707 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The resources.
    pub resources: BTreeSet<Resource>,
    /// The scope.
    pub scope: Scope,
}

/// There are as many questions as there may be, and all of them are put.
#[derive(Debug, thiserror::Error)]
#[error("there are {MOST} different questions already")]
pub struct TooMany;

/// All questions, with the one that is kept fresh whether it is put or not.
pub struct Questions {
    settings: Settings,
    files: CredentialFiles,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    first: Arc<Asked>,
    others: Mutex<Vec<Arc<Asked>>>,
}

/// A question with its source.
pub struct Asked {
    /// What is asked.
    pub question: Question,
    /// Who answers.
    pub source: TokenSource,
    _follower: Follower,
    times: Mutex<Times>,
}

struct Times {
    asked: Timestamp,
    early: Option<Timestamp>,
}

impl Questions {
    /// With the question of these settings as the first. All sources follow the same files, and begin with the credential that the first
    /// one has in use.
    ///
    /// Needs a Tokio runtime.
    ///
    /// # Errors
    /// [`SetupFault`].
    pub fn new(
        settings: Settings,
        files: CredentialFiles,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, SetupFault> {
        let first = Arc::new(Asked::new(settings.clone(), &files, &clock, &entropy)?);
        Ok(Self { settings, files, clock, entropy, first, others: Mutex::default() })
    }

    /// The question that is kept fresh.
    #[must_use]
    pub const fn first(&self) -> &Arc<Asked> {
        &self.first
    }

    /// All that are put, the first one first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Asked>> {
        let mut all = vec![self.first.clone()];
        all.extend(self.others().iter().cloned());
        all
    }

    /// The one with this question, new if need be.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn find(&self, question: &Question) -> Result<Arc<Asked>, TooMany> {
        let now = self.clock.now();
        if self.first.question == *question {
            return Ok(self.first.clone());
        }
        let mut others = self.others();
        if let Some(asked) = others.iter().find(|asked| asked.question == *question) {
            asked.times().asked = now;
            return Ok(asked.clone());
        }
        if others.len() + 1 >= MOST {
            let longest = (0..others.len()).filter(|at| others[*at].makes_room(now));
            let longest = longest.min_by_key(|at| others[*at].times().asked).ok_or(TooMany)?;
            others.swap_remove(longest);
        }
        let mut settings = self.settings.clone();
        settings.credential = self.first.source.credential();
        settings.resources.clone_from(&question.resources);
        settings.scope.clone_from(&question.scope);
        // The same settings made the first one: they make another one.
        let asked = Asked::new(settings, &self.files, &self.clock, &self.entropy).map_err(|_| TooMany)?;
        let asked = Arc::new(asked);
        others.push(asked.clone());
        Ok(asked)
    }

    /// Somebody says that the files have changed: this is what is in them. Nobody waits for the end of a pause after it.
    ///
    /// # Errors
    /// [`SetupFault`]; then nothing has changed for those that come after.
    pub fn rotate(&self, credential: &Credential) -> Result<(), SetupFault> {
        self.all().iter().try_for_each(|asked| {
            asked.source.rotate_credential(credential.clone())?;
            asked.source.retry_now();
            Ok(())
        })
    }

    /// Somebody says that the server may be well again: nobody waits for the end of a pause.
    pub fn retry_now(&self) {
        for asked in self.all() {
            asked.source.retry_now();
        }
    }

    fn others(&self) -> MutexGuard<'_, Vec<Arc<Asked>>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    fn new(
        settings: Settings,
        files: &CredentialFiles,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<Self, SetupFault> {
        let question = Question { resources: settings.resources.clone(), scope: settings.scope.clone() };
        let source = TokenSource::new(settings, clock.clone(), entropy.clone())?;
        let follower = source.follow(files.clone());
        let times = Mutex::new(Times { asked: clock.now(), early: None });
        Ok(Self { question, source, _follower: follower, times })
    }

    /// A token with more than this much of its life before it, if there are such tokens; else one that is good.
    ///
    /// # Errors
    /// Why there is none at all.
    pub async fn token(&self, min_ttl: Duration, clock: &dyn Clock) -> Result<Arc<AccessToken>, Error> {
        let token = self.source.token().await?;
        let now = clock.now();
        if token.expires().since(now) > min_ttl || !self.may_ask_early(now) {
            return Ok(token);
        }
        // Where there is no other one, this one is still good.
        Ok(self.source.token_lasting(min_ttl).await.unwrap_or(token))
    }

    /// Whether it may go for another one. A clock that was put back makes nothing stay.
    fn makes_room(&self, now: Timestamp) -> bool {
        let asked = self.times().asked;
        let patience = if self.source.status().token_expires.is_some() { FORGOTTEN } else { IN_VAIN };
        now < asked || now.since(asked) >= patience
    }

    /// In how long the server is asked again, while it is left alone after a failure.
    pub(super) fn wait(&self, now: Timestamp) -> Option<Duration> {
        let status = self.source.status();
        let next = status.retry_at.into_iter().chain(status.waiting.and_then(|waiting| waiting.retry_at)).min()?;
        (now < next).then(|| next.since(now))
    }

    /// Whoever wants tokens of a life that the server does not give must not have one made for each call.
    fn may_ask_early(&self, now: Timestamp) -> bool {
        let mut times = self.times();
        let may = times.early.is_none_or(|early| now < early || now.since(early) >= EARLY);
        if may {
            times.early = Some(now);
        }
        may
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use certbind_client::{AssertionKey, AssertionKeyFile, Authorities};
    use certbind_proto::entropy::SeededEntropy;
    use certbind_proto::jws::{Algorithm, SigningKey};
    use certbind_proto::time::FixedClock;

    use super::*;
    use crate::agent::fault::Fault;

    #[tokio::test]
    async fn rfc9110_10_2_3_a_pause_is_told_and_ends_when_somebody_says_that_the_files_have_changed() {
        let now = Timestamp::from_unix(1_795_305_600);
        let key = AssertionKey::new(SigningKey::generate(Algorithm::Es256).unwrap(), None);
        let credential = Credential::PrivateKeyJwt { certificate: None, key };
        let key = AssertionKeyFile { algorithm: None, kid: None, path: "/nowhere".into() };
        let files = CredentialFiles::PrivateKeyJwt { certificate: None, key };
        let nobody = Authorities::new(&[]).unwrap();
        // Its addresses are private, so nobody is asked.
        let settings = Settings::new("https://127.0.0.1:1", "billing", credential.clone(), nobody);
        let (clock, entropy) = (Arc::new(FixedClock::at(now)), Arc::new(SeededEntropy::new(1)));
        let questions = Questions::new(settings, files, clock.clone(), entropy).unwrap();
        let asked = questions.first();
        assert_eq!(asked.wait(now), None);
        let mut told = Vec::new();
        for _ in 0..6 {
            let error = asked.source.token().await.unwrap_err();
            let wait = asked.wait(now).unwrap();
            let seconds = Fault::NoToken { error, wait: Some(wait) }.retry_after().unwrap();
            assert!(
                wait <= Duration::from_secs(seconds) && Duration::from_secs(seconds) < wait + Duration::from_secs(1)
            );
            told.push(seconds);
            clock.advance(wait);
            assert_eq!(asked.wait(clock.now()), None);
        }
        assert!(told[5] > 4 * told[0], "{told:?}");
        asked.source.token().await.unwrap_err();
        assert!(asked.wait(clock.now()).is_some());
        questions.rotate(&credential).unwrap();
        assert_eq!(asked.wait(clock.now()), None);
    }
}
