//! What only a running server knows: clients of the store, and who shares a name with whom there.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;

use certbind_proto::client::{Client, RegistrationRules};
use serde_json::Value;

use super::ExplainArgs;
use crate::cli::admin_api::{CallError, Reach, path_of};
use crate::config::Environment;
use crate::registry::fault::{Complaint, Warning};
use crate::registry::file::FileRegistry;
use crate::registry::{Registry as _, Snapshot, document, shared_subjects};

/// How many seconds a server may take; what the files say is explained without it as well.
const PATIENCE: u64 = 3;

/// What a running server said, or why it said nothing.
pub(super) struct Stored {
    client: Option<Result<Arc<Client>, Vec<Complaint>>>,
    shared: BTreeSet<Warning>,
    silent: Option<anyhow::Error>,
}

impl Stored {
    /// Asks for the client, unless a file registers it, and for shared names. Without a server those of files are known.
    pub(super) fn ask(
        args: &ExplainArgs,
        environment: &Environment,
        files: &FileRegistry,
        rules: &RegistrationRules,
    ) -> Self {
        let is_file = files.find(&args.client_id).is_some();
        match ask(args, environment, is_file, rules) {
            Ok((client, shared)) => Self { client, shared, silent: None },
            Err(error) => Self { client: None, shared: shared_subjects(files.all().iter()), silent: Some(error) },
        }
    }

    /// Says what the server has against the client, or why it was not asked. Where no server can be meant, and a file says
    /// all, there is nothing to say.
    pub(super) fn tell(&self, client_id: &str, is_expected: bool, out: &mut dyn Write) -> io::Result<()> {
        if let Some(Err(complaints)) = &self.client {
            writeln!(out, "client     {client_id}: this configuration refuses its registration in the store:")?;
            complaints.iter().try_for_each(|complaint| writeln!(out, "           {complaint}"))?;
        }
        match &self.silent {
            Some(why) if is_expected => {
                writeln!(out, "note       the clients of the store were not looked at: {why:#}")
            }
            _ => Ok(()),
        }
    }

    /// What a client is that is not in force.
    pub(super) const fn unknown(&self) -> &'static str {
        match self.client {
            Some(Err(_)) => "not in force",
            _ => "not registered",
        }
    }

    /// The clients of files, and this one.
    pub(super) fn with(&self, files: &FileRegistry) -> Arc<Snapshot> {
        let stored = self.client.iter().filter_map(|client| client.as_ref().ok());
        Arc::new(stored.chain(files.all().iter()).cloned().collect())
    }

    /// Who has the same name in the same trust group.
    pub(super) fn shared_with(&self, client_id: &str) -> Vec<String> {
        let shared = self.shared.iter().map(|Warning::SharedSubject { clients, .. }| clients);
        let with = shared.filter(|clients| clients.iter().any(|client| client == client_id)).flatten();
        with.filter(|client| *client != client_id).cloned().collect()
    }
}

type Said = (Option<Result<Arc<Client>, Vec<Complaint>>>, BTreeSet<Warning>);

fn ask(
    args: &ExplainArgs,
    environment: &Environment,
    is_file: bool,
    rules: &RegistrationRules,
) -> anyhow::Result<Said> {
    let api = Reach::unsaid(PATIENCE).connect(&args.sources.sources(environment.clone()))?;
    let shared = api.get("/admin/v1/shared-subjects")?.body;
    let shared = shared["shared_subjects"].as_array().into_iter().flatten().map(shared_subject).collect();
    if is_file {
        return Ok((None, shared));
    }
    match api.get(&path_of(&args.client_id)) {
        Ok(answer) => Ok((Some(registered(answer.body, rules)), shared)),
        // The one refusal that there is for a name: nobody has it.
        Err(CallError::Refused(problem)) if problem["status"] == 404 => Ok((None, shared)),
        Err(error) => Err(error.into()),
    }
}

fn registered(mut shown: Value, rules: &RegistrationRules) -> Result<Arc<Client>, Vec<Complaint>> {
    let Some(members) = shown.as_object_mut() else { return Err(vec![Complaint::NotADocument]) };
    for read_only in crate::admin::READ_ONLY {
        members.remove(read_only);
    }
    document::register(members, rules).map(|registration| registration.client)
}

fn shared_subject(shown: &Value) -> Warning {
    let text = |name: &str| shown[name].as_str().unwrap_or_default().to_owned();
    let clients = shown["clients"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    Warning::SharedSubject { trust: text("trust"), subject: text("subject"), clients: clients.collect() }
}
