// Package wire speaks AWS's protocols on the server's side: it turns a request
// into a Go struct and a Go struct, or an error, into a response.
//
//	EC2      EC2 query:  Filter.1.Name=…          → <requestId>, <item>     ec2
//	Query    AWS query:  Filters.member.1.Name=…  → <XResult>, <member>     autoscaling, elbv2, sts
//	JSON     JSON 1.1:   X-Amz-Target             → JSON                    ssm
//	RESTJSON REST:       method, path, headers    → JSON or a raw body      ebs
//
// # Structs
//
// The fields of a request or response struct bear AWS's own names, so that
// most need no tag:
//
//	type describeImagesInput struct {
//		ImageIds []string `wire:"ImageId"`          // ImageId.1, ImageId.2 …
//		Filters  []filter `wire:"Filter"`           // Filter.1.Name …
//		MaxResults *int                             // a pointer where absent differs from zero
//	}
//	type describeImagesOutput struct {
//		Images    []image `wire:",imagesSet"`       // <imagesSet><item>…
//		NextToken string                            // <nextToken>, left out when empty
//	}
//
// The tag is `wire:"name in requests,name in responses,required"`; each part
// may be empty or left off. Without a name a field is called as in Go; in
// responses of EC2 its first letter is small. Where AWS calls the elements of a
// list in XML otherwise than usual, the name in responses says so:
// "groupSet>groupId". A field tagged "-" is not on the wire. The fields of an
// embedded struct count as the outer struct's. Fields may be strings, booleans,
// integers, float64, time.Time, []byte (base64), structs, and pointers to and
// slices of these.
//
// RESTJSON knows four more tags, each holding the name on the wire:
// `path:"SnapshotId"`, `query:"pageToken"`, `header:"x-amz-Checksum"`, and
// `body:"raw"` for the body itself: an io.Reader in requests, a []byte in
// responses, which are told by a method Release, if they have one, when the body
// is sent. A response field tagged `status:""` is the HTTP status.
//
// # Strictness
//
// A parameter that no field knows is an error that names it; so are a value of
// the wrong type and an absent field that is tagged required. What an option
// does not do here, a caller must never believe to have been done.
//
// In responses nil pointers, nil slices and empty strings are left out, but
// for the lists of the response's outermost struct, which are always there, as
// they are in AWS's.
package wire
