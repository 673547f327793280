"""Pure: frames, session, TLS layer and enrolment tokens. docs/protocol.md is the norm."""
