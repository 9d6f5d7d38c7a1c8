package ec2

// describe answers a Describe call: of all resources, which are in the order
// of their creation, those of the ids, or every one where there are none, that
// pass the filters; and of these the page that is asked for.
func describe[Model interface{ base() *resource }, Item any](
	all []Model, ids []string, item func(Model) Item,
	by filterable[Item], filters []filter, asked paging, within pageRange,
) ([]Item, string, error) {
	passes, err := by.all(filters)
	if err != nil {
		return nil, "", err
	}
	wanted := make(map[string]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	type placed struct {
		item Item
		base *resource
	}
	var found []placed
	for _, model := range all {
		base := model.base()
		if len(ids) > 0 && !wanted[base.Id] {
			continue
		}
		if it := item(model); passes(it) {
			found = append(found, placed{it, base})
		}
	}
	found, next, err := cut(found, asked, within, func(p placed) string { return p.base.place() })
	if err != nil {
		return nil, "", err
	}
	items := make([]Item, len(found))
	for i, p := range found {
		items[i] = p.item
	}
	return items, next, nil
}
