"""Top floor: recipes, the staged run with resume, status, doctor, the command line."""
