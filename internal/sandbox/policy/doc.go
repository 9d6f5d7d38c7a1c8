// Package policy is IAM's identity-based policies: what their JSON may say, and
// what it permits.
//
// A document allows or denies actions on resources. What no statement allows is
// denied, and what a statement denies is denied whatever others allow
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html).
// Conditions, policy variables and principals are refused by name: a policy that
// is accepted means what it means to IAM.
package policy
