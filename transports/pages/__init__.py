"""The pages for people: the console and the playground. They know no message and no resolver."""
