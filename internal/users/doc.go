// Package users knows the users of a gateway: their file, and whether a password is right. It
// reads files with passwords to send, too.
//
//	file ──→ set of users ←── Reload swaps the whole set, or keeps it on an error
//	            │
//	Verify ─────┼─→ remembered (keyed hash) ───────────────→ Right
//	            ├─→ too many failures of the source's prefix → Limited
//	            ├─→ no room in the queue ───────────────────→ Busy
//	            └─→ queue ─→ Run's workers: bcrypt ─────────→ Right, Wrong
//
// Verify never hashes and never blocks for long, so that an event loop can call it. Checks
// with the same user, password and prefix that are under way at once share one hash.
//
// Invariants:
//   - A check that fails costs the same work whether the user exists or not, whatever cost
//     the user's hash has.
//   - Each password given to Verify is overwritten before its outcome is known. No error
//     has a part of a password or a hash.
//   - All tables are bounded: the queue refuses, the others forget what is oldest.
//   - A remembered check is worth nothing once the user's hash has changed.
//
// Source: RFC 1929 (sizes of user and password), the bcrypt of OpenBSD (Provos and Mazières,
// "A Future-Adaptable Password Scheme", 1999), whose hash covers 72 bytes.
package users
