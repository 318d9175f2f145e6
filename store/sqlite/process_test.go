package sqlite

const roleVariable = "MDMESH_TEST_ROLE"

func runRole() int { return 0 }
