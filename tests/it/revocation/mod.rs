//! Revocation and introspection, black box: requests over real TLS in, answers and audit lines out.

mod revoke;
