package federation

import (
	"testing"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

func TestMain(m *testing.M) { meshproc.Main(m) }
