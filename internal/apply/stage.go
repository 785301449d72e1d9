package apply

// staged is a set whose new rows wait in a staging table.
type staged struct{}

func (s *staged) call(careful bool) call { return call{} }
