//! What one thread does in the module: finds the token, logs in, reads keys, signs; and begins anew when its session is
//! lost.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use certbind_proto::jws::{Algorithm, VerifyingKey};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use super::{Settings, public};
use crate::mint::signer::{ModuleFault, ModuleKey, ObjectId};

/// How long a module is left alone after it was begun anew.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// The module as this process has loaded it.
pub(super) struct Library {
    /// Read by whoever is in the module, written when it begins anew.
    state: RwLock<State>,
    /// Whether the PIN may be tried: one thread at a time, and never again once it was refused.
    login: Mutex<Login>,
}

struct State {
    context: Pkcs11,
    /// Sessions of an earlier one are no longer known to the module.
    epoch: u64,
    begun: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Login {
    Allowed,
    Refused,
}

impl Library {
    /// Loads and initializes it. Another part of this process may have done so already.
    pub(super) fn load(path: &Path) -> Result<Self, ModuleFault> {
        let context = Pkcs11::new(path).map_err(failed)?;
        initialize(&context)?;
        let state = RwLock::new(State { context, epoch: 0, begun: Instant::now() });
        Ok(Self { state, login: Mutex::new(Login::Allowed) })
    }

    fn enter(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends and begins the module, which may know no token or device that came after its beginning. Not while a call
    /// is in it, and not all the time; says whether it was done.
    fn renew(&self) -> bool {
        let Ok(mut state) = self.state.try_write() else { return false };
        if state.begun.elapsed() < RENEW_AGAIN {
            return false;
        }
        state.begun = Instant::now();
        state.epoch += 1;
        let _ = state.context.clone().finalize();
        initialize(&state.context).is_ok()
    }

    fn open(&self, state: &State, settings: &Settings) -> Result<Session, ModuleFault> {
        let slot = slot(&state.context, settings)?;
        let session = state.context.open_ro_session(slot).map_err(failed)?;
        let mut login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        if *login == Login::Refused {
            return Err(ModuleFault::PinRefused);
        }
        match session.login(UserType::User, Some(&AuthPin::from(settings.pin.as_str()))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(Error::Pkcs11(error, _)) if is_about_the_pin(error) => {
                *login = Login::Refused;
                Err(ModuleFault::PinRefused)
            }
            Err(error) => Err(failed(error)),
        }
    }
}

fn initialize(context: &Pkcs11) -> Result<(), ModuleFault> {
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn slot(context: &Pkcs11, settings: &Settings) -> Result<Slot, ModuleFault> {
    for slot in context.get_slots_with_token().map_err(failed)? {
        let Ok(token) = context.get_token_info(slot) else { continue };
        let is_it = token.label().trim_end() == settings.token
            && settings.serial.as_ref().is_none_or(|serial| token.serial_number().trim_end() == serial);
        if is_it {
            return Ok(slot);
        }
    }
    Err(ModuleFault::TokenMissing)
}

const fn is_about_the_pin(error: RvError) -> bool {
    matches!(
        error,
        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange | RvError::PinExpired | RvError::PinLocked
    )
}

/// The state of one thread.
pub(super) struct Worker<'a> {
    library: &'a Library,
    settings: &'a Settings,
    open: Option<Open>,
}

/// A session, and the handles that were found in it.
struct Open {
    session: Session,
    handles: HashMap<ObjectId, ObjectHandle>,
    epoch: u64,
}

impl<'a> Worker<'a> {
    pub(super) const fn new(library: &'a Library, settings: &'a Settings) -> Self {
        Self { library, settings, open: None }
    }

    /// Whether the token can be had, from the beginning: a session may look well that is good for nothing.
    pub(super) fn probe(&mut self) -> Result<(), ModuleFault> {
        let private =
            [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(self.settings.object.as_str().into())];
        let act = |open: &mut Open, _: &Settings| open.session.find_objects(&private).map(drop).map_err(failed);
        let outcome = self.anew(act);
        self.unless_lost(outcome, &act)
    }

    /// The keys with the configured label, in the order of their ids.
    pub(super) fn keys(&mut self) -> Result<Vec<ModuleKey>, ModuleFault> {
        self.attempt(&|open: &mut Open, settings: &Settings| open.keys(&settings.object))
    }

    /// A signature in the form of RFC 7518 §3.
    pub(super) fn sign(&mut self, id: &ObjectId, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, ModuleFault> {
        self.attempt(&|open: &mut Open, settings: &Settings| open.sign(&settings.object, id, algorithm, message))
    }

    /// Does it in the session that is open; if that is lost in a new one; if there is none in a module begun anew: the
    /// device was restarted, the token was taken out and put back.
    fn attempt<T>(&mut self, act: &impl Fn(&mut Open, &Settings) -> Result<T, ModuleFault>) -> Result<T, ModuleFault> {
        let mut outcome = match self.in_open_session(act) {
            Some(outcome) => outcome,
            None => self.anew(act),
        };
        if is_lost(&outcome) {
            outcome = self.anew(act);
        }
        self.unless_lost(outcome, act)
    }

    fn unless_lost<T>(
        &mut self,
        outcome: Result<T, ModuleFault>,
        act: &impl Fn(&mut Open, &Settings) -> Result<T, ModuleFault>,
    ) -> Result<T, ModuleFault> {
        if is_lost(&outcome) && self.library.renew() { self.anew(act) } else { outcome }
    }

    fn in_open_session<T>(
        &mut self,
        act: impl Fn(&mut Open, &Settings) -> Result<T, ModuleFault>,
    ) -> Option<Result<T, ModuleFault>> {
        let state = self.library.enter();
        let open = self.open.as_mut().filter(|open| open.epoch == state.epoch)?;
        Some(act(open, self.settings))
    }

    fn anew<T>(&mut self, act: impl Fn(&mut Open, &Settings) -> Result<T, ModuleFault>) -> Result<T, ModuleFault> {
        let state = self.library.enter();
        // The old session goes first: a token counts them, and its login ends with the last one.
        self.open.take().into_iter().for_each(|open| open.close(&state));
        let session = self.library.open(&state, self.settings)?;
        let open = self.open.insert(Open { session, handles: HashMap::new(), epoch: state.epoch });
        act(open, self.settings)
    }
}

/// Whether it may go better in another session.
const fn is_lost<T>(outcome: &Result<T, ModuleFault>) -> bool {
    matches!(outcome, Err(ModuleFault::Failed(_) | ModuleFault::TokenMissing))
}

impl Open {
    /// Ends the session. One of an earlier beginning is left alone: its number may be another session's by now.
    fn close(self, state: &State) {
        if self.epoch != state.epoch {
            std::mem::forget(self.session);
        }
    }

    fn keys(&self, object: &str) -> Result<Vec<ModuleKey>, ModuleFault> {
        let private =
            [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(object.into()), Attribute::Sign(true)];
        let mut keys = Vec::new();
        for handle in self.session.find_objects(&private).map_err(failed)? {
            let Some(id) = self.id(handle)? else { continue };
            match self.public(&id)? {
                Some(public) => keys.push(ModuleKey { id, public }),
                None => {
                    tracing::warn!(%id, "a key of the token has no public key beside it that can be published; passed over")
                }
            }
        }
        keys.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(keys)
    }

    fn id(&self, handle: ObjectHandle) -> Result<Option<ObjectId>, ModuleFault> {
        let attributes = self.session.get_attributes(handle, &[AttributeType::Id]).map_err(failed)?;
        let id = attributes.into_iter().find_map(|attribute| match attribute {
            Attribute::Id(id) if !id.is_empty() => Some(ObjectId::new(id)),
            _ => None,
        });
        Ok(id)
    }

    /// The public key with this id, if it is one that can be published.
    fn public(&self, id: &ObjectId) -> Result<Option<VerifyingKey>, ModuleFault> {
        let public = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Id(id.as_bytes().to_vec())];
        let Some(handle) = self.session.find_objects(&public).map_err(failed)?.into_iter().next() else {
            return Ok(None);
        };
        let get = |types: &[AttributeType]| self.session.get_attributes(handle, types).map_err(failed);
        let key_type = get(&[AttributeType::KeyType])?.into_iter().find_map(|attribute| match attribute {
            Attribute::KeyType(key_type) => Some(key_type),
            _ => None,
        });
        Ok(match key_type {
            Some(KeyType::RSA) => public::rsa(&get(&[AttributeType::Modulus, AttributeType::PublicExponent])?),
            Some(KeyType::EC) => public::curve(&get(&[AttributeType::EcParams, AttributeType::EcPoint])?),
            Some(KeyType::EC_EDWARDS) => public::ed25519(&get(&[AttributeType::EcPoint])?),
            _ => None,
        })
    }

    fn sign(
        &mut self,
        object: &str,
        id: &ObjectId,
        algorithm: Algorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, ModuleFault> {
        let handle = self.handle(object, id)?;
        let hashed = |hash| digest::digest(hash, message).as_ref().to_vec();
        let (mechanism, data) = match algorithm {
            Algorithm::EdDsa => (Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)), message.to_vec()),
            Algorithm::Es256 => (Mechanism::Ecdsa, hashed(&digest::SHA256)),
            Algorithm::Es384 => (Mechanism::Ecdsa, hashed(&digest::SHA384)),
            Algorithm::Rs256 => (Mechanism::Sha256RsaPkcs, message.to_vec()),
            Algorithm::Ps256 => (
                Mechanism::Sha256RsaPkcsPss(pss(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, 32)),
                message.to_vec(),
            ),
            Algorithm::Ps384 => (
                Mechanism::Sha384RsaPkcsPss(pss(MechanismType::SHA384, PkcsMgfType::MGF1_SHA384, 48)),
                message.to_vec(),
            ),
        };
        self.session.sign(&mechanism, handle, &data).map_err(failed)
    }

    fn handle(&mut self, object: &str, id: &ObjectId) -> Result<ObjectHandle, ModuleFault> {
        if let Some(handle) = self.handles.get(id) {
            return Ok(*handle);
        }
        let private = [
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::Label(object.into()),
            Attribute::Id(id.as_bytes().to_vec()),
        ];
        let found = self.session.find_objects(&private).map_err(failed)?;
        let handle = *found.first().ok_or_else(|| ModuleFault::KeyMissing(id.clone()))?;
        self.handles.insert(id.clone(), handle);
        Ok(handle)
    }
}

/// RFC 7518 §3.5: the salt is as long as the hash.
fn pss(hash_alg: MechanismType, mgf: PkcsMgfType, salt: u64) -> PkcsPssParams {
    PkcsPssParams { hash_alg, mgf, s_len: salt.into() }
}

fn failed(error: Error) -> ModuleFault {
    ModuleFault::Failed(Arc::new(error))
}
