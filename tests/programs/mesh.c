/* Shows the mesh of the ranks that mpiexec starts:
 *     mpiexec -n 8 mesh DATA PIPE TENSOR    0: as many as the others leave */
#include "common/comm/mesh.h"

#include <stdlib.h>

int main(int argc, char **argv) {
    base_set_program(argv[0]);
    CHECK_USAGE(argc == 4, "see the first lines of the source", "three sizes are needed");
    Comm *world = comm_world();
    Mesh mesh = mesh_new(world, (const int[MESH_AXES]){atoi(argv[1]), atoi(argv[2]), atoi(argv[3])});
    if (world->rank == 0) {
        char *picture = mesh_picture(&mesh);
        fputs(picture, stdout);
        free(picture);
    }
    mesh_close(&mesh);
    comm_close(world);
    return 0;
}
