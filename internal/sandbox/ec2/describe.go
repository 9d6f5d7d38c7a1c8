package ec2

import (
	"sort"

	pages "github.com/immutable-server/packer-plugin-immutable/internal/sandbox/paging"
)

// describe answers a Describe call: of all resources that are seen, which are in the order
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
	after, size, err := asked.bounds(within)
	if err != nil {
		return nil, "", err
	}
	first := 0
	if after != "" {
		first = sort.Search(len(all), func(i int) bool { return all[i].base().place() > after })
	}
	var items []Item
	last := ""
	for _, model := range all[first:] {
		base := model.base()
		if base.unseen() || len(ids) > 0 && !wanted[base.Id] {
			continue
		}
		it := item(model)
		if !passes(it) {
			continue
		}
		if len(items) == size {
			return items, pages.Token(last), nil
		}
		items, last = append(items, it), base.place()
	}
	return items, "", nil
}
