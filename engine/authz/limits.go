// SPDX-License-Identifier: AGPL-3.0-only

package authz

// Limits of what comes from outside.
const (
	// PrincipalRunesMax bounds a principal's name, in runes.
	PrincipalRunesMax = 256
	// PrincipalLenMax bounds a principal's name, in bytes: what that many runes can take.
	PrincipalLenMax = 4 * PrincipalRunesMax
	// GrantsMax bounds the principals in one object's list.
	GrantsMax = 1024
	// SecretLenMax bounds a secret, in bytes: a longer one would only buy the sender CPU time of ours.
	SecretLenMax = 1024
	// EncodedSecretLenMax bounds a stored hash, in bytes.
	EncodedSecretLenMax = 256
)
