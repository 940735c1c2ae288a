/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The main program of a fuzz target that is built without libFuzzer: runs it on each file that is
 * named, or that is in a directory that is named. So every input that ever broke something is tried
 * again with each compiler and sanitizer, and under a debugger.
 */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = NULL;
	struct stat st;
	size_t size = 0;

	if (file == NULL || fstat(fileno(file), &st) < 0) {
		perror(path);
		if (file != NULL)
			fclose(file);
		return 1;
	}
	/* Exactly as long as the input, so that the sanitizers see a read past it. */
	data = malloc(st.st_size > 0 ? (size_t)st.st_size : 1);
	if (data != NULL)
		size = fread(data, 1, (size_t)st.st_size, file);
	fclose(file);
	if (data == NULL || size != (size_t)st.st_size) {
		fprintf(stderr, "%s: cannot be read\n", path);
		free(data);
		return 1;
	}
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 0;
}

static int replay_directory(const char *path, DIR *dir)
{
	const struct dirent *entry;
	int failed = 0, n = 0;

	while ((entry = readdir(dir)) != NULL) {
		char file[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		failed |= replay_file(file);
		n++;
	}
	printf("%s: %d inputs\n", path, n);
	return failed;
}

int main(int argc, char **argv)
{
	int failed = 0;

	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);

		if (dir == NULL) {
			failed |= replay_file(argv[i]);
			continue;
		}
		failed |= replay_directory(argv[i], dir);
		closedir(dir);
	}
	return failed;
}
