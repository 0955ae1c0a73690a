/* SPDX-License-Identifier: MIT */
/*
 * What an image is asked for: the links, the programs that they may tail-call, and the maps of all
 * of them.
 */
#ifndef UB_DAEMON_PARTS_H
#define UB_DAEMON_PARTS_H

#include <hook/image.h>

#include "targets.h"

struct parts {
	struct ub_image_link *links;
	u32 nr_links;
	struct ub_image_callee *callees;
	u32 nr_callees;
	struct ub_image_map *maps;
	u32 nr_maps;
	struct part_source *sources; /* of each map */
};

/* All that @links need, found from map to program to map. -ENOMEM. @parts is to be freed in any
 * case. */
int __must_check ub_daemon_parts_find(struct parts *parts, struct link *const *links, u32 nr);
void ub_daemon_parts_free(struct parts *parts);

/*
 * @map, whose values are programs or maps, changed: what programs are not to find any more goes
 * from the image's tables at once. True: something else is wanted there that the image does not
 * hold.
 */
bool ub_daemon_parts_changed(const struct ub_image *image, const struct ub_kernel_map *map);

#endif
