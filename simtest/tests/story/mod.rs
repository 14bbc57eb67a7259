mod first_cluster;
