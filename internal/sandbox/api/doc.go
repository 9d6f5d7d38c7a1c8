// Package api is where a service's operations are registered, and what a
// handler is given.
//
// A service is a value of its own package with one method an operation:
//
//	func (s *Service) register(r *api.Service) {
//		api.Register(r, "DescribeImages", s.describeImages)
//		api.Register(r, "RegisterImage", s.registerImage)
//	}
//
//	func (s *Service) describeImages(_ context.Context, c *api.Call, in *describeImagesInput) (*describeImagesOutput, error) {
//		page := s.images.In(c.Region)
//		…
//		return nil, wire.Errorf("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
//	}
//
// The types of in and out say what is on the wire (package wire).
//
// A handler runs with the books held (package state), so it sees and leaves
// them whole. What takes long goes into c.Outside. An output must share no
// memory with the books: it is written when they are let go of. Operations
// called Describe…, Get… and List… must not change the books.
//
// What a caller must be permitted a handler says with Call.On (the resources
// that the operation is done to) and Call.Needs (further actions, such as
// ec2:CreateTags where tags are given): the call log and with it the least
// policies are made of these. Neither returns when a policy is enforced that
// does not permit it, so a handler says everything before it changes anything
// and before it goes outside. What it is done to are the resources of
// https://docs.aws.amazon.com/service-authorization/latest/reference/; one that
// is to be made is called "*", as in image/*.
package api
